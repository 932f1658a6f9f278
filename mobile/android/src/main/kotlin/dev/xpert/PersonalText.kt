package dev.xpert

/**
 * One text of the user.
 *
 * @property text the text
 * @property prompt what it answers, or null where that is not known
 */
data class PersonalText @JvmOverloads constructor(val text: String, val prompt: String? = null) {
    /** Says how long it is, not what it is: personal texts belong in no log. */
    override fun toString(): String = "PersonalText(${text.length} characters${if (prompt == null) "" else ", with its prompt"})"
}

/** Where personal texts come from, such as an app's own notes or messages. What the app hands over is all that is read. */
interface TextSource {
    /** Names the source in the report. */
    val name: String

    /** Its texts, read once, on a background thread. */
    fun texts(): Sequence<PersonalText>

    /** Sources of what is in memory already. */
    companion object {
        /** A source of texts that are in memory. */
        @JvmStatic
        @JvmOverloads
        fun of(texts: List<String>, name: String = "texts"): TextSource = ofPairs(texts.map(::PersonalText), name)

        /** A source of texts with what they answer. */
        @JvmStatic
        @JvmOverloads
        fun ofPairs(texts: List<PersonalText>, name: String = "texts"): TextSource = object : TextSource {
            override val name = name

            override fun texts() = texts.asSequence()
        }
    }
}

/**
 * What was made of the texts that an app handed over. Holds counts only.
 *
 * @property given texts a source, by its name
 * @property empty texts without a letter or digit
 * @property duplicates texts that were there before, but for case and white space
 * @property shortened texts whose end was left out, as they were longer than [Preparation.maxPieces] pieces
 * @property pieces training pairs that came of it
 * @property heldOut share of the pairs that is kept from training, to stop early; about that where texts are long, as they stay whole
 * @property characters of all pairs' texts
 */
data class PreparationReport(
    val given: Map<String, Int>,
    val empty: Int,
    val duplicates: Int,
    val shortened: Int,
    val pieces: Int,
    val heldOut: Double,
    val characters: Int,
)

/** A training pair, and the number of the text that it is a piece of: pieces of one text are on one side of the held-out split. */
internal data class Piece(val pair: PersonalText, val text: Int)

/**
 * Training pairs with the report of where they come from.
 *
 * @property report what was made of the texts
 */
class PreparedTexts internal constructor(internal val pieces: List<Piece>, val report: PreparationReport) {
    /** What is trained on. */
    val pairs: List<PersonalText> get() = pieces.map { it.pair }
}
