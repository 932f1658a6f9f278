package dev.xpert

import org.json.JSONObject

/**
 * A word of the user's style.
 *
 * @property word the axis' label
 * @property coefficient its weight: 1 is as much as the word's exemplars have
 * @property lower end of the coefficient's interval of 95 %
 * @property upper end of it
 * @property heldUp it has the same sign on texts that it was not computed from
 */
data class StyleWord(val word: String, val coefficient: Double, val lower: Double, val upper: Double, val heldUp: Boolean)

/**
 * One ranked pLLM.
 *
 * @property name what [XPert.download] takes: the first digits of its adapter's digest
 * @property probability that it is the nearest
 * @property similarity estimated share of the texts in its style
 * @property adapterBytes what fetching it costs
 */
data class Match(val name: String, val probability: Double, val similarity: Double, val adapterBytes: Long)

/**
 * One source of a merge.
 *
 * @property name what [XPert.download] takes
 * @property adapterDigest of its adapter, the first digits
 * @property weight of its difference to the base
 */
data class MergeSource(val name: String, val adapterDigest: String, val weight: Double)

/**
 * A merge of several pLLMs that may lie nearer than the best one alone.
 *
 * @property sources what is merged
 * @property distance of the merge from the user, in standard deviations of the noise
 * @property single the best pLLM alone
 * @property singleDistance its distance
 * @property wins the merge is nearer by more than noise
 */
data class MergeProposal(
    val sources: List<MergeSource>,
    val distance: Double,
    val single: String,
    val singleDistance: Double,
    val wins: Boolean,
)

/**
 * What was chosen for the user's texts.
 *
 * @property choice the pLLM to start from, or null where XPerT abstains: the base model is the better start then
 * @property reason why it abstains, or why it does not
 * @property confidence probability that the choice is the nearest pLLM
 * @property margin how far it is ahead of the second
 * @property similarity estimated share of the texts in its style
 * @property expectedSaving estimated share of training steps that it saves
 * @property paired the base's answers were looked at too
 * @property nTexts texts that were looked at
 * @property matches all pLLMs, the likeliest first
 * @property words the user's style
 * @property merge a merge to consider, or null
 * @property json the native core's whole answer
 */
class Selection internal constructor(
    val choice: String?,
    val reason: String,
    val confidence: Double,
    val margin: Double,
    val similarity: Double,
    val expectedSaving: Double,
    val paired: Boolean,
    val nTexts: Int,
    val matches: List<Match>,
    val words: List<StyleWord>,
    val merge: MergeProposal?,
    val json: String,
) {
    /** No pLLM pays: the base model is the better start. */
    val abstained: Boolean get() = choice == null

    internal companion object {
        fun parse(json: String): Selection = parsed("selection") {
            val all = JSONObject(json)
            Selection(
                choice = all.text("choice").takeUnless { all.getBoolean("abstain") },
                reason = all.text("reason").orEmpty(),
                confidence = all.number("confidence"),
                margin = all.number("margin"),
                similarity = all.number("similarity"),
                expectedSaving = all.number("expected_saving"),
                paired = all.getBoolean("paired"),
                nTexts = all.getInt("n_texts"),
                matches = all.getJSONArray("matches").map {
                    Match(it.getString("name"), it.number("probability"), it.number("similarity"), it.optLong("adapter_bytes"))
                },
                words = all.getJSONArray("words").map(::word),
                merge = all.optJSONObject("merge")?.let(::proposal),
                json = json,
            )
        }

        private fun word(all: JSONObject) = StyleWord(
            word = all.getString("word"),
            coefficient = all.number("coefficient"),
            lower = all.number("lower"),
            upper = all.number("upper"),
            heldUp = all.optBoolean("held_up"),
        )

        private fun proposal(all: JSONObject) = MergeProposal(
            sources = all.getJSONArray("sources").map {
                MergeSource(it.getString("name"), it.text("adapter_digest").orEmpty(), it.number("weight"))
            },
            distance = all.number("distance"),
            single = all.text("single").orEmpty(),
            singleDistance = all.number("single_distance"),
            wins = all.getBoolean("wins"),
        )
    }
}
