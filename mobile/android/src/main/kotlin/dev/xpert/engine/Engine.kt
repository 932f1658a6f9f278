package dev.xpert.engine

/** A call that the native core refused or gave up, with its status as in xpert.h. */
class EngineFailure(val status: Int, message: String) : RuntimeException(message) {
    /** What the native side calls. */
    internal constructor(status: Int, message: ByteArray) : this(status, message.toString(Charsets.UTF_8))
}

/** Told after every optimizer step, on the thread that trains; answering false ends the run at this step, with a checkpoint. */
fun interface StepObserver {
    fun onStep(step: Int, steps: Int, loss: Double, heldOut: Double): Boolean
}

/** Told of every finished piece of an answer, whole UTF-8; answering false ends it. */
fun interface PieceObserver {
    fun onPiece(piece: ByteArray): Boolean
}

/**
 * An opened bundle: texts in, JSON out. Free of Android's classes, so that it runs on any JVM.
 *
 * Thread-safe: calls run one after another, [cancel] and [close] come through at once, and a call after [close] is an
 * [EngineFailure] with the status [CLOSED].
 */
class Engine private constructor(private val handle: Long) : AutoCloseable {
    fun describe(): String = Native.describe(handle).text()

    fun cancel() = Native.cancel(handle)

    override fun close() = Native.close(handle)

    fun tokenize(text: String): String = Native.tokenize(handle, text.utf8(), false).text()

    fun coefficients(texts: List<String>, axes: Int): DoubleArray = Native.coefficients(handle, texts.utf8(), axes)

    fun select(catalogue: String, texts: List<String>, baseAnswers: List<String>?, options: String): String =
        Native.select(handle, catalogue.utf8(), texts.utf8(), baseAnswers?.utf8(), options.utf8()).text()

    fun nearestCells(index: String, texts: List<String>): String = Native.nearestCells(handle, index.utf8(), texts.utf8()).text()

    fun merge(request: String): String = Native.merge(handle, request.utf8()).text()

    fun personalize(prompts: List<String?>, texts: List<String>, request: String, observer: StepObserver): String {
        require(prompts.size == texts.size) { "${prompts.size} prompts for ${texts.size} texts: give one each, null for none." }
        return Native.personalize(handle, prompts.map { it?.utf8() }.toTypedArray(), texts.utf8(), request.utf8(), observer).text()
    }

    fun generate(prompt: String, request: String, observer: PieceObserver): String =
        Native.generate(handle, prompt.utf8(), request.utf8(), observer).text()

    companion object {
        const val CANCELLED = 15
        const val CLOSED = 16

        fun open(bundle: String, options: String): Engine = Engine(Native.open(bundle.utf8(), options.utf8()))

        fun verify(bundle: String, publicKey: String?): String = Native.verify(bundle.utf8(), publicKey?.utf8()).text()

        fun verifyFile(file: String, signature: String, publicKey: String) =
            Native.verifyFile(file.utf8(), signature.utf8(), publicKey.utf8())

        /** What an index of cells says; needs no bundle. */
        fun describeCells(index: String, request: String): String = Native.describeCells(index.utf8(), request.utf8()).text()

        fun version(): String = Native.version().text()

        private fun String.utf8() = toByteArray(Charsets.UTF_8)

        private fun List<String>.utf8() = Array(size) { this[it].utf8() }

        private fun ByteArray.text() = toString(Charsets.UTF_8)
    }
}
