package dev.xpert

import org.junit.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue

class PreparationTest {
    private val words: (String) -> Int = { it.split(' ', '\n').count(String::isNotEmpty) }

    @Test fun duplicatesAndEmptyTextsAreLeftOut() {
        val notes = TextSource.of(listOf("Dear all, thanks.", "dear  ALL,\nthanks.", " ", "!?", "See you 🙂", "ﬁne", "fine"), "notes")
        val mail = TextSource.ofPairs(listOf(PersonalText("See you 🙂", "When?"), PersonalText("At nine.", "When?")), "mail")
        val prepared = Preparation().prepare(listOf(notes, mail), words)
        assertEquals(listOf("Dear all, thanks.", "See you 🙂", "ﬁne", "At nine."), prepared.pairs.map { it.text })
        assertEquals("When?", prepared.pairs.last().prompt)
        val characters = prepared.pairs.sumOf { it.text.length }
        assertEquals(PreparationReport(mapOf("notes" to 7, "mail" to 2), 2, 3, 0, 4, 0.2, characters), prepared.report)
    }

    @Test fun longTextsAreCutBetweenSentences() {
        val sentences = List(30) { "This is sentence number $it of them." }
        val long = PersonalText(sentences.joinToString(" "), "Tell.")
        val prepared = Preparation(maxTokens = 16).prepare(listOf(TextSource.ofPairs(listOf(long))), words)
        assertEquals(8, prepared.pairs.size)
        assertEquals(1, prepared.report.shortened)
        assertTrue(prepared.pairs.all { words(it.text) <= 16 && it.text.endsWith("them.") })
        assertEquals(sentences.take(16).joinToString(" "), prepared.pairs.joinToString(" ") { it.text })
        assertEquals(listOf("Tell.") + List(7) { null }, prepared.pairs.map { it.prompt })
    }

    @Test fun sentencesThatAreTooLongAreCutBetweenWords() {
        val text = List(95) { "word$it" }.joinToString(" ")
        val prepared = Preparation(maxTokens = 10, maxPieces = 100).prepare(listOf(TextSource.of(listOf(text))), words)
        assertTrue(prepared.pairs.all { words(it.text) <= 10 })
        assertEquals(List(95) { "word$it" }, prepared.pairs.flatMap { it.text.split(" ") })
        assertEquals(0, prepared.report.shortened)
    }

    @Test fun piecesKnowTheirText() {
        val long = List(12) { "This is sentence number $it of them." }.joinToString(" ")
        val texts = listOf("Short one.", long, "short  ONE.", "Another.", "More: $long")
        val prepared = Preparation(maxTokens = 16).prepare(listOf(TextSource.of(texts)), words)
        val runs = prepared.pieces.groupBy({ it.text }, { it.pair.text }).values.map { it.joinToString(" ") }
        assertEquals(texts.filterIndexed { i, _ -> i != 2 }, runs)
    }

    @Test fun optionsThatMakeNoSenseAreRefused() {
        assertFailsWith<XPertException.BadInput> { Preparation(maxTokens = 2) }
        assertFailsWith<XPertException.BadInput> { Preparation(heldOut = 0.9) }
        assertFailsWith<XPertException.BadInput> { Preparation(maxPieces = 0) }
        assertFailsWith<XPertException.BadInput> { PersonalizeOptions(name = "../up") }
    }

    @Test fun textsAreNotInWhatIsPrinted() {
        assertFalse("secret" in PersonalText("my secret", "a secret?").toString())
    }
}
