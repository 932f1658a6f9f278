package dev.xpert

import android.content.Context
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** The native library inside Robolectric, against what Python answers to the same texts. */
@RunWith(RobolectricTestRunner::class)
class NativeSelectTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()

    private fun config() = XPertConfig(Prepared.bundle, folder = folder.root)

    @Test fun choosesWhatPythonChooses() = runBlocking {
        val golden = Prepared.golden()
        assertTrue(golden.length() >= 12)
        XPert.open(context, config()).use { xpert ->
            for (i in 0 until golden.length()) check(xpert, golden.getJSONObject(i))
        }
    }

    private suspend fun check(xpert: XPert, expected: JSONObject) {
        val texts = expected.getJSONArray("texts").strings().map(::PersonalText)
        val found = xpert.select(texts, Prepared.catalogue, seed = 0)
        assertEquals(expected.text("choice"), found.choice, expected.getString("style"))
        assertEquals(expected.getBoolean("abstain"), found.abstained)
        for ((name, value) in mapOf("confidence" to found.confidence, "margin" to found.margin, "similarity" to found.similarity)) {
            assertEquals(expected.getDouble(name), value, 1e-3, name)
        }
        val words = expected.getJSONObject("words")
        assertEquals(words.length(), found.words.size)
        for (word in found.words) assertEquals(words.getDouble(word.word), word.coefficient, 1e-3, word.word)
    }

    @Test fun whatCannotBeUsedIsTyped() = runBlocking<Unit> {
        assertFailsWith<XPertException.NotFound> { XPert.open(context, XPertConfig(File(folder.root, "none.xpert"))) }
        val broken = File(folder.root, "broken.xpert")
        Prepared.bundle.copyRecursively(broken)
        File(broken, "space.safetensors").appendBytes(byteArrayOf(0))
        assertFailsWith<XPertException.BadFile> { XPert.open(context, XPertConfig(broken)) }
        XPert.open(context, config()).use { xpert ->
            assertFailsWith<XPertException.BadInput> { xpert.select(listOf(PersonalText(" ")), Prepared.catalogue) }
            assertFailsWith<XPertException.BadInput> { xpert.select(listOf(PersonalText("Hello there."))) }
            assertFailsWith<XPertException.BadFile> {
                xpert.select(listOf(PersonalText("Hello there.")), File(Prepared.bundle, "manifest.json"))
            }
        }
        val closed = XPert.open(context, config()).also { it.close() }
        assertFailsWith<XPertException.Closed> { closed.select(listOf(PersonalText("Hello there.")), Prepared.catalogue) }
    }

    @Test fun preparationCountsTheBasesTokens() = runBlocking {
        val texts = Prepared.texts(10)
        XPert.open(context, config()).use { xpert ->
            val prepared = xpert.prepare(listOf(TextSource.of(texts + texts.first(), "notes")))
            assertEquals(mapOf("notes" to 11), prepared.report.given)
            assertEquals(1, prepared.report.duplicates)
            assertTrue(prepared.pairs.size >= 10)
            val again = xpert.prepare(listOf(TextSource.ofPairs(prepared.pairs)))
            assertEquals(prepared.pairs.map { it.text }, again.pairs.map { it.text }, "no piece is longer than it may be")
        }
    }
}
