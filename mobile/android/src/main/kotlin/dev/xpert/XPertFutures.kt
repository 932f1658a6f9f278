package dev.xpert

import android.content.Context
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.future.future
import kotlinx.coroutines.launch
import java.io.File
import java.util.concurrent.CompletableFuture

/** Told of a flow's items on a background thread, then once of its end. */
interface Listener<T> {
    /** The next item. */
    fun onNext(item: T)

    /** [error] is null where all went well. */
    fun onEnd(error: XPertException?)
}

/** Stops what was started. */
fun interface Cancellable {
    /** Stops it; once more does nothing. */
    fun cancel()
}

/** [XPert] for Java: futures and listeners in place of coroutines. Cancelling a future cancels its call. */
class XPertFutures private constructor(private val xpert: XPert) : AutoCloseable {
    /** What the opened bundle holds. */
    val description: Description get() = xpert.description

    /** As [XPert.select]. */
    @JvmOverloads
    fun select(texts: List<PersonalText>, catalogue: File? = null): CompletableFuture<Selection> =
        scope.future { xpert.select(texts, catalogue) }

    /** As [XPert.download]. */
    @JvmOverloads
    fun download(name: String, onBytes: BytesListener? = null): CompletableFuture<File> = scope.future { xpert.download(name, onBytes) }

    /** As [XPert.merge]. */
    fun merge(adapters: Map<File, Double>, name: String): CompletableFuture<File> = scope.future { xpert.merge(adapters, name) }

    /** Fine-tunes in the background; cancelling stops watching only, [cancelPersonalization] ends the run. */
    @JvmOverloads
    fun personalize(
        sources: List<TextSource>,
        options: PersonalizeOptions = PersonalizeOptions(),
        listener: Listener<Progress>,
    ): Cancellable = listen(xpert.personalize(sources, options), listener)

    /** As [XPert.cancelPersonalization]. */
    @JvmOverloads
    fun cancelPersonalization(name: String = PersonalizeOptions().name) = xpert.cancelPersonalization(name)

    /** As [XPert.generate]; [listener] is told of each piece. */
    @JvmOverloads
    fun generate(prompt: String, options: GenerateOptions = GenerateOptions(), listener: Listener<String>): Cancellable =
        listen(xpert.generate(prompt, options), listener)

    /** As [XPert.close]. */
    override fun close() = xpert.close()

    private fun <T> listen(flow: Flow<T>, listener: Listener<T>): Cancellable {
        val job: Job = scope.launch {
            try {
                flow.collect { listener.onNext(it) }
                listener.onEnd(null)
            } catch (error: XPertException) {
                listener.onEnd(error)
            }
        }
        return Cancellable { job.cancel() }
    }

    /** Where an [XPertFutures] comes from. */
    companion object {
        private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

        /** As [XPert.open]. */
        @JvmStatic
        fun open(context: Context, config: XPertConfig): CompletableFuture<XPertFutures> =
            scope.future { XPertFutures(XPert.open(context, config)) }
    }
}
