package dev.xpert

import dev.xpert.engine.EngineFailure
import java.io.File
import java.io.IOException

/**
 * All that XPerT throws on purpose. The message is for people and holds no personal text.
 *
 * @property code stable, for programs
 */
sealed class XPertException(val code: String, message: String, cause: Throwable? = null) : RuntimeException(message, cause) {
    /** A fault of this library: please report it. */
    class Internal(message: String, cause: Throwable? = null) : XPertException("internal", message, cause)

    /** Texts or options that cannot be used. */
    class BadInput(message: String) : XPertException("bad_input", message)

    /** A truncated, tampered, foreign or newer file. */
    class BadFile(message: String) : XPertException("bad_file", message)

    /** Parts made for different bases, spaces or encoders. */
    class Mismatch(message: String) : XPertException("mismatch", message)

    /** A path, pLLM or run that is not there. */
    class NotFound(message: String) : XPertException("not_found", message)

    /** The disk is full or not writable; nothing half-written stays. */
    class Storage(message: String, cause: Throwable? = null) : XPertException("storage", message, cause)

    /** The run diverged, or its checkpoint belongs to another run. */
    class Training(message: String) : XPertException("training", message)

    /** The server wants a token, or another one. */
    class Access(message: String) : XPertException("access", message)

    /**
     * The server cannot be reached or is busy: try again.
     *
     * @property retryAfterSeconds not before so many seconds, or null where the server does not say
     */
    class Unavailable(message: String, val retryAfterSeconds: Long? = null, cause: Throwable? = null) :
        XPertException("unavailable", message, cause)

    /** A signature is missing or wrong. */
    class Untrusted(message: String) : XPertException("untrusted", message)

    /** The call was ended from outside, by another thread's cancel or close. */
    class Cancelled(message: String) : XPertException("cancelled", message)

    /** What was called had been closed before. */
    class Closed(message: String) : XPertException("closed", message)

    internal companion object {
        fun of(failure: EngineFailure): XPertException = of(failure.status, failure.message.orEmpty(), failure)

        fun of(status: Int, message: String, cause: Throwable?): XPertException = when (status) {
            3 -> BadInput(message)
            4 -> BadFile(message)
            5 -> Mismatch(message)
            6 -> NotFound(message)
            8 -> Storage(message, cause)
            9 -> Training(message)
            14 -> Untrusted(message)
            15 -> Cancelled(message)
            16 -> Closed(message)
            else -> Internal(message, cause)
        }

        fun writing(file: File, cause: IOException) =
            Storage("Cannot write '${file.name}': ${cause.message}. Nothing half-written stays. Free some space and try again.", cause)
    }
}

/** Runs a call of the native core, whose failures become typed. */
internal inline fun <T> typed(call: () -> T): T = try {
    call()
} catch (failure: EngineFailure) {
    throw XPertException.of(failure)
}
