package dev.xpert

import java.text.BreakIterator
import java.text.Normalizer
import java.util.Locale

/**
 * Makes training pairs of personal texts (the paper's offline phase on the phone): deduplicated, and long ones cut between sentences.
 *
 * @property maxTokens longest piece, in tokens of the base model
 * @property maxPieces so many pieces one text gives at most: a long document must not outweigh all messages
 * @property heldOut share of the pairs that is kept from training, to stop early; all pieces of a text, or none
 */
class Preparation @JvmOverloads constructor(val maxTokens: Int = 48, val maxPieces: Int = 8, val heldOut: Double = 0.2) {
    init {
        if (maxTokens < 8) throw XPertException.BadInput("Pieces of $maxTokens tokens hold no sentence: give 8 or more.")
        if (maxPieces < 1) throw XPertException.BadInput("$maxPieces pieces a text leave nothing: give 1 or more.")
        if (heldOut < 0 || heldOut > 0.5) throw XPertException.BadInput("A held-out share of $heldOut is none: give 0 to 0.5.")
    }

    /** Reads the sources in their order; [tokens] counts the tokens of a text. */
    internal fun prepare(sources: List<TextSource>, tokens: (String) -> Int): PreparedTexts {
        val given = LinkedHashMap<String, Int>()
        val seen = HashSet<String>()
        val all = ArrayList<Piece>()
        var empty = 0
        var duplicates = 0
        var shortened = 0
        for (source in sources) {
            for (text in source.texts()) {
                given.merge(source.name, 1, Int::plus)
                if (text.text.none(Char::isLetterOrDigit)) {
                    empty++
                } else if (!seen.add(identityOf(text.text))) {
                    duplicates++
                } else {
                    val pieces = cut(text.text.trim(), tokens)
                    if (pieces.size > maxPieces) shortened++
                    // What a text answers is answered by its beginning; the rest stands for itself.
                    pieces.take(maxPieces).forEachIndexed { i, piece ->
                        all += Piece(PersonalText(piece, text.prompt.takeIf { i == 0 }), text = seen.size)
                    }
                }
            }
        }
        val report = PreparationReport(given, empty, duplicates, shortened, all.size, heldOut, all.sumOf { it.pair.text.length })
        return PreparedTexts(all, report)
    }

    private fun cut(text: String, tokens: (String) -> Int): List<String> {
        if (tokens(text) <= maxTokens) return listOf(text)
        val pieces = ArrayList<String>()
        val open = StringBuilder()
        for (part in parts(text, tokens)) {
            if (open.isNotEmpty() && tokens(open.toString() + part) > maxTokens) {
                pieces += open.toString().trim()
                open.clear()
            }
            open.append(part)
        }
        pieces += open.toString().trim()
        return pieces.filter { piece -> piece.any(Char::isLetterOrDigit) }
    }

    /** Sentences, and words where a sentence alone is too long. */
    private fun parts(text: String, tokens: (String) -> Int): Sequence<String> =
        split(text, BreakIterator.getSentenceInstance(Locale.ROOT)).flatMap { sentence ->
            if (tokens(sentence) <= maxTokens) sequenceOf(sentence) else split(sentence, BreakIterator.getWordInstance(Locale.ROOT))
        }

    private fun split(text: String, breaks: BreakIterator): Sequence<String> = sequence {
        breaks.setText(text)
        var start = breaks.first()
        while (true) {
            val end = breaks.next()
            if (end == BreakIterator.DONE) break
            yield(text.substring(start, end))
            start = end
        }
    }

    internal companion object {
        private val WHITE = Regex("\\s+")

        /** What two texts share that count as one: all but case, width of letters and white space. */
        private fun identityOf(text: String) =
            Normalizer.normalize(text, Normalizer.Form.NFKC).lowercase(Locale.ROOT).trim().replace(WHITE, " ")

        /** Texts that say something, each once: what a selection looks at. */
        fun distinct(texts: List<PersonalText>): List<PersonalText> =
            texts.filter { it.text.any(Char::isLetterOrDigit) }.distinctBy { identityOf(it.text) }
    }
}
