package dev.xpert

import dev.xpert.engine.Engine
import kotlinx.coroutines.suspendCancellableCoroutine
import java.util.concurrent.Executors
import java.util.concurrent.RejectedExecutionException
import kotlin.coroutines.resume
import kotlin.coroutines.resumeWithException

/** Calls of one engine from coroutines: one after another on a thread of their own, each cancelled with its caller. */
internal class EngineCalls(private val engine: Engine) : AutoCloseable {
    private val thread = Executors.newSingleThreadExecutor { Thread(it, "xpert-engine").apply { isDaemon = true } }
    private val lock = Any()
    private var current: Any? = null

    /** [block] may ask its argument whether the caller is still there. */
    suspend fun <T> call(block: (Engine, isActive: () -> Boolean) -> T): T = suspendCancellableCoroutine { caller ->
        // Only the caller's own call may be cancelled, not one that follows it on the thread.
        caller.invokeOnCancellation { synchronized(lock) { if (current === caller) engine.cancel() } }
        val work = Runnable {
            synchronized(lock) { current = caller }
            val result = if (caller.isActive) runCatching { typed { block(engine, caller::isActive) } } else null
            synchronized(lock) { current = null }
            result?.fold(caller::resume) { caller.resumeWithException(it) }
        }
        try {
            thread.execute(work)
        } catch (_: RejectedExecutionException) {
            caller.resumeWithException(XPertException.Closed("XPert was closed. Open it again."))
        }
    }

    /** Ends what runs; what waits ends as closed. */
    override fun close() {
        thread.shutdown()
        engine.close()
    }
}
