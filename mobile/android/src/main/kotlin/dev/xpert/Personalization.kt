package dev.xpert

import org.json.JSONArray
import org.json.JSONObject
import java.io.File

/** How a personalization changes the model. */
enum class Method(internal val word: String) { LORA("lora"), PROMPT("prompt"), PREFIX("prefix") }

/** When a personalization runs. */
enum class Schedule {
    /** As a job of Android's JobScheduler, while the phone charges. */
    WHEN_CHARGING,

    /** At once, as a foreground service with a notification; the app must be visible. Goes on as a job where it is cut off. */
    NOW,
}

/**
 * What must hold of the phone while it trains; the run pauses otherwise, and goes on later.
 *
 * @property charging the phone must be plugged in
 * @property minimumBattery percent
 * @property maximumHeat of PowerManager's THERMAL_STATUS values, from Android 10 on
 * @property minimumFreeBytes of storage
 */
data class Gates @JvmOverloads constructor(
    val charging: Boolean = true,
    val minimumBattery: Int = 30,
    val maximumHeat: Int = 1,
    val minimumFreeBytes: Long = 64L shl 20,
)

/**
 * How to personalize. A [name] is one run: asked again with the same texts and options, it goes on where it was cut off.
 *
 * @property name of the run, 1 to 63 of a-z, 0-9, '.', '_' and '-'
 * @property start adapter folder to start from (what [XPert.download] or [XPert.merge] gave), or null for the base
 * @property schedule when it runs
 * @property method how the model is changed
 * @property maxSteps it ends after so many steps at the latest
 * @property batchSize texts at a time
 * @property accumulate so many times [batchSize] texts make a step
 * @property learningRate of AdamW, after a warm-up over the first tenth of the steps
 * @property evalEvery steps between two looks at the held-out texts
 * @property patience so many looks without a better loss end the run
 * @property targetLoss ends the run as soon as the held-out loss is this low, in nats a token
 * @property seed of data order, held-out split and new adapters
 * @property checkpointEvery steps between two checkpoints: a run that was cut off repeats at most these
 * @property gates what must hold of the phone
 * @property preparation how the texts become training pairs
 */
data class PersonalizeOptions @JvmOverloads constructor(
    val name: String = "personal",
    val start: File? = null,
    val schedule: Schedule = Schedule.WHEN_CHARGING,
    val method: Method = Method.LORA,
    val maxSteps: Int = 100,
    val batchSize: Int = 4,
    val accumulate: Int = 1,
    val learningRate: Double = 5e-4,
    val evalEvery: Int = 5,
    val patience: Int = 4,
    val targetLoss: Double? = null,
    val seed: Long = 0,
    val checkpointEvery: Int = 5,
    val gates: Gates = Gates(),
    val preparation: Preparation = Preparation(),
) {
    init {
        if (!NAME.matches(name)) {
            throw XPertException.BadInput("'$name' names no run: give 1 to 63 of a-z, 0-9, '.', '_', '-', a letter or digit first.")
        }
    }

    internal fun request(out: File): JSONObject = JSONObject()
        .put("out", out.path).put("start", start?.path ?: JSONObject.NULL).put("method", method.word).put("max_steps", maxSteps)
        .put("batch_size", batchSize).put("accumulate", accumulate).put("learning_rate", learningRate)
        .put("held_out", preparation.heldOut).put("eval_every", evalEvery).put("patience", patience)
        .put("target_loss", targetLoss ?: JSONObject.NULL).put("seed", seed).put("checkpoint_every", checkpointEvery)

    private companion object {
        val NAME = Regex("[a-z0-9][a-z0-9._-]{0,62}")
    }
}

/** Why training does not run at the moment. */
enum class Pause {
    NOT_CHARGING,
    BATTERY_LOW,
    POWER_SAVE,
    TOO_HOT,
    STORAGE_LOW,

    /** Android ended the job or the service: it wants the resources, or the time limit of Android 15 has come. */
    SYSTEM,

    /** The process died and the texts were in memory only: call [XPert.personalize] with them again. */
    TEXTS_NEEDED,
}

/** Where a personalization is. */
sealed class Progress {
    /**
     * The texts are prepared and the run is with Android, which starts it when its time has come.
     *
     * @property report what was made of the texts
     */
    data class Scheduled(val report: PreparationReport) : Progress()

    /**
     * A step was done.
     *
     * @property step its number, from 1
     * @property steps how many there are at most
     * @property loss of the step's texts, in nats a token
     * @property heldOut the last measured loss of the held-out texts, null before the first
     */
    data class Step(val step: Int, val steps: Int, val loss: Double, val heldOut: Double?) : Progress()

    /**
     * The run waits, with a checkpoint behind it.
     *
     * @property reason what it waits for
     */
    data class Paused(val reason: Pause) : Progress()

    /**
     * The run has ended well.
     *
     * @property result what came of it
     */
    data class Done(val result: PersonalizeResult) : Progress()

    /**
     * The run has failed.
     *
     * @property error what it failed with
     */
    data class Failed(val error: XPertException) : Progress()

    /** [XPert.cancelPersonalization] ended the run. */
    data object Stopped : Progress()

    /** Nothing comes after it. */
    val ends: Boolean get() = this is Done || this is Failed || this is Stopped
}

/**
 * What came of a personalization.
 *
 * @property adapter folder of the adapter, in PEFT's format
 * @property digest of its content
 * @property steps so many were done
 * @property seconds that they took, without the pauses
 * @property nTrain texts that were learnt from
 * @property nHeldOut texts that were held out
 * @property nCut texts whose end was left out, as they were longer than the bundle's programs
 * @property resumedFrom step that the last part of the run went on from, 0 where it was never cut off
 * @property losses of each step, in nats a token
 * @property heldOut step and loss of each look at the held-out texts
 */
data class PersonalizeResult(
    val adapter: File,
    val digest: String,
    val steps: Int,
    val seconds: Double,
    val nTrain: Int,
    val nHeldOut: Int,
    val nCut: Int,
    val resumedFrom: Int,
    val losses: List<Double>,
    val heldOut: List<Pair<Int, Double>>,
) {
    internal companion object {
        fun parse(json: String): PersonalizeResult = parsed("result") {
            val all = JSONObject(json)
            PersonalizeResult(
                adapter = File(all.getString("adapter")),
                digest = all.getString("digest"),
                steps = all.getInt("steps"),
                seconds = all.number("seconds"),
                nTrain = all.getInt("n_train"),
                nHeldOut = all.getInt("n_held_out"),
                nCut = all.optInt("n_cut"),
                resumedFrom = all.optInt("resumed_from"),
                losses = all.getJSONArray("losses").doubles(),
                heldOut = looks(all.getJSONArray("held_out")),
            )
        }

        /** [[step, loss]], as they are written. */
        private fun looks(all: JSONArray) = List(all.length()) { i -> all.getJSONArray(i).let { it.getInt(0) to it.getDouble(1) } }
    }
}

/**
 * How to answer a prompt.
 *
 * @property adapter folder of the pLLM's adapter, or null for the base
 * @property maxNewTokens the answer ends after so many at the latest
 * @property temperature 0 takes the likeliest token each time; 1 draws as the model says
 * @property topK draws from so many tokens at most, 0 from all
 * @property topP draws from the likeliest tokens that have this probability together
 * @property seed of the draws
 * @property stop the answer ends before the first of these
 */
data class GenerateOptions @JvmOverloads constructor(
    val adapter: File? = null,
    val maxNewTokens: Int = 100,
    val temperature: Double = 0.0,
    val topK: Int = 0,
    val topP: Double = 1.0,
    val seed: Long = 0,
    val stop: List<String> = emptyList(),
) {
    internal fun request(): String = JSONObject()
        .put("adapter", adapter?.path ?: JSONObject.NULL).put("max_new_tokens", maxNewTokens).put("temperature", temperature)
        .put("top_k", topK).put("top_p", topP).put("seed", seed).put("stop", JSONArray(stop)).toString()
}
