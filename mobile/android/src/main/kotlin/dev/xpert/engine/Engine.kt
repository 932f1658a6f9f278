package dev.xpert.engine

/**
 * A call that the native core refused or gave up.
 *
 * @property status as in xpert.h
 */
class EngineFailure(val status: Int, message: String) : RuntimeException(message) {
    /** What the native side calls. */
    internal constructor(status: Int, message: ByteArray) : this(status, message.toString(Charsets.UTF_8))
}

/** Told after every optimizer step, on the thread that trains; answering false ends the run at this step, with a checkpoint. */
fun interface StepObserver {
    /** [step] of [steps] is done; losses are in nats a token, [heldOut] is NaN before the first look at the held-out texts. */
    fun onStep(step: Int, steps: Int, loss: Double, heldOut: Double): Boolean
}

/** Told of every finished piece of an answer, whole UTF-8; answering false ends it. */
fun interface PieceObserver {
    /** The next piece. */
    fun onPiece(piece: ByteArray): Boolean
}

/**
 * An opened bundle: texts in, JSON out, as xpert.h says of each function. Free of Android's classes, so that it runs on any JVM.
 *
 * Thread-safe: calls run one after another, [cancel] and [close] come through at once, and a call after [close] is an
 * [EngineFailure] with the status [CLOSED].
 */
class Engine private constructor(private val handle: Long) : AutoCloseable {
    /** What the bundle holds. */
    fun describe(): String = Native.describe(handle).text()

    /** Makes the running call, if any, end soon as [CANCELLED]. */
    fun cancel() = Native.cancel(handle)

    /** Ends what runs and frees the bundle. Closing twice is fine. */
    override fun close() = Native.close(handle)

    /** Token ids of a text by the base's tokenizer. */
    fun tokenize(text: String): String = Native.tokenize(handle, text.utf8(), false).text()

    /** Coefficients of texts in the bundle's style space of so many [axes], row by row. */
    fun coefficients(texts: List<String>, axes: Int): DoubleArray = Native.coefficients(handle, texts.utf8(), axes)

    /** Chooses from a catalogue's file, or from a cell's with the option "index". */
    fun select(catalogue: String, texts: List<String>, baseAnswers: List<String>?, options: String): String =
        Native.select(handle, catalogue.utf8(), texts.utf8(), baseAnswers?.utf8(), options.utf8()).text()

    /** The cells of an index in which the texts lie, that of their mean first. */
    fun nearestCells(index: String, texts: List<String>): String = Native.nearestCells(handle, index.utf8(), texts.utf8()).text()

    /** Merges adapters into one. */
    fun merge(request: String): String = Native.merge(handle, request.utf8()).text()

    /** Fine-tunes an adapter on texts, each with its prompt or null. */
    fun personalize(prompts: List<String?>, texts: List<String>, request: String, observer: StepObserver): String {
        require(prompts.size == texts.size) { "${prompts.size} prompts for ${texts.size} texts: give one each, null for none." }
        return Native.personalize(handle, prompts.map { it?.utf8() }.toTypedArray(), texts.utf8(), request.utf8(), observer).text()
    }

    /** Answers a prompt, piece by piece. */
    fun generate(prompt: String, request: String, observer: PieceObserver): String =
        Native.generate(handle, prompt.utf8(), request.utf8(), observer).text()

    /** What needs no opened bundle. */
    companion object {
        /** Status of a call that was ended from outside. */
        const val CANCELLED = 15

        /** Status of a call after [close]. */
        const val CLOSED = 16

        /** Opens a bundle after checking it. */
        fun open(bundle: String, options: String): Engine = Engine(Native.open(bundle.utf8(), options.utf8()))

        /** Checks a bundle whole, with a public key its signature too. */
        fun verify(bundle: String, publicKey: String?): String = Native.verify(bundle.utf8(), publicKey?.utf8()).text()

        /** Checks a file against its signature. */
        fun verifyFile(file: String, signature: String, publicKey: String) =
            Native.verifyFile(file.utf8(), signature.utf8(), publicKey.utf8())

        /** What an index of cells says. */
        fun describeCells(index: String, request: String): String = Native.describeCells(index.utf8(), request.utf8()).text()

        /** The native core's version. */
        fun version(): String = Native.version().text()

        private fun String.utf8() = toByteArray(Charsets.UTF_8)

        private fun List<String>.utf8() = Array(size) { this[it].utf8() }

        private fun ByteArray.text() = toString(Charsets.UTF_8)
    }
}
