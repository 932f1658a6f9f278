package dev.xpert.engine

/**
 * The whole boundary to C++ (mobile/native/jni), a function for each of xpert.h.
 *
 * Texts and JSON cross as UTF-8 bytes: JNI's own strings are modified UTF-8, which an emoji breaks.
 */
internal object Native {
    init {
        // A host's tests name the file; on a phone the library is in the AAR.
        val file = System.getProperty("xpert.native.library")
        if (file.isNullOrEmpty()) System.loadLibrary("xpert_jni") else System.load(file)
    }

    @JvmStatic external fun version(): ByteArray

    @JvmStatic external fun verify(bundle: ByteArray, publicKey: ByteArray?): ByteArray

    @JvmStatic external fun verifyFile(file: ByteArray, signature: ByteArray, publicKey: ByteArray)

    @JvmStatic external fun open(bundle: ByteArray, options: ByteArray): Long

    @JvmStatic external fun describe(engine: Long): ByteArray

    @JvmStatic external fun cancel(engine: Long)

    @JvmStatic external fun close(engine: Long)

    @JvmStatic external fun tokenize(engine: Long, text: ByteArray, addSpecial: Boolean): ByteArray

    @JvmStatic external fun coefficients(engine: Long, texts: Array<ByteArray>, axes: Int): DoubleArray

    @JvmStatic external fun select(
        engine: Long,
        catalogue: ByteArray,
        texts: Array<ByteArray>,
        baseAnswers: Array<ByteArray>?,
        options: ByteArray,
    ): ByteArray

    @JvmStatic external fun describeCells(index: ByteArray, request: ByteArray): ByteArray

    @JvmStatic external fun nearestCells(engine: Long, index: ByteArray, texts: Array<ByteArray>): ByteArray

    @JvmStatic external fun merge(engine: Long, request: ByteArray): ByteArray

    @JvmStatic external fun personalize(
        engine: Long,
        prompts: Array<ByteArray?>,
        texts: Array<ByteArray>,
        request: ByteArray,
        observer: StepObserver,
    ): ByteArray

    @JvmStatic external fun generate(engine: Long, prompt: ByteArray, request: ByteArray, observer: PieceObserver): ByteArray
}
