package dev.xpert

import android.content.Context
import android.os.Process
import dev.xpert.engine.Engine
import dev.xpert.engine.EngineFailure
import kotlinx.coroutines.flow.MutableStateFlow
import org.json.JSONArray
import org.json.JSONObject
import java.util.concurrent.ConcurrentHashMap
import kotlin.concurrent.thread

/** The personalizations of this process: at most one thread each, whoever starts it. */
internal object Runs {
    private val states = ConcurrentHashMap<String, MutableStateFlow<Progress?>>()
    private val texts = ConcurrentHashMap<String, List<Piece>>()
    private val running = ConcurrentHashMap<String, Run>()

    /** Where the keys of sealed texts come from; a host without Android's key store has its own. */
    @Volatile
    var keys: TextKeys = AndroidKeys

    fun state(folder: RunFolder): MutableStateFlow<Progress?> = states.getOrPut(folder.path.path) { MutableStateFlow(null) }

    fun isRunning(folder: RunFolder): Boolean = running.containsKey(folder.path.path)

    /** Keeps what a run needs until it ends. */
    fun submit(folder: RunFolder, spec: RunSpec, pieces: List<Piece>, first: Progress) {
        if (isRunning(folder)) throw XPertException.BadInput("'${folder.name}' runs already. Await its end, or cancel it first.")
        texts[folder.path.path] = pieces
        if (spec.storage == TextStorage.SEALED) folder.seal(pieces, keys)
        folder.write(spec)
        state(folder).value = first
    }

    /** Starts or goes on with a run on a thread of its own; null where it runs already or has ended. [ended] is called on that thread. */
    fun start(context: Context, folder: RunFolder, ended: (Progress) -> Unit): Run? {
        if (!folder.open) return null
        val run = Run(context.applicationContext ?: context, folder)
        if (running.putIfAbsent(folder.path.path, run) != null) return null
        thread(name = "xpert-training") {
            val last = run.train()
            running.remove(folder.path.path)
            if (last.ends) forget(folder)
            try {
                ended(last)
            } finally {
                // Who sees a pause finds the job that goes on scheduled.
                state(folder).value = last
            }
        }
        return run
    }

    /** Ends a run for good: nothing of it stays. */
    fun cancel(folder: RunFolder) {
        val run = running[folder.path.path]
        if (run != null) {
            run.cancel()
        } else {
            forget(folder)
            state(folder).value = Progress.Stopped
        }
        if (run == null) folder.remove()
    }

    /** As the death of the process does: what is in memory only is gone. */
    fun forgetMemory() {
        texts.clear()
        states.clear()
    }

    private fun forget(folder: RunFolder) {
        texts.remove(folder.path.path)
        folder.end()
    }

    /** One part of a run, from its start or its last checkpoint to its end or its next pause. */
    internal class Run(private val context: Context, private val folder: RunFolder) {
        private val lock = Any()
        private var engine: Engine? = null

        @Volatile private var halt: Pause? = null

        @Volatile private var cancelled = false

        fun pause(reason: Pause) {
            halt = halt ?: reason
            synchronized(lock) { engine?.cancel() }
        }

        fun cancel() {
            cancelled = true
            pause(Pause.SYSTEM)
        }

        fun train(): Progress {
            val last = try {
                Process.setThreadPriority(Process.THREAD_PRIORITY_BACKGROUND)
                attempt()
            } catch (failure: EngineFailure) {
                val isPause = failure.status == Engine.CANCELLED
                if (isPause) Progress.Paused(halt ?: Pause.SYSTEM) else Progress.Failed(XPertException.of(failure))
            } catch (error: XPertException) {
                Progress.Failed(error)
            } catch (error: RuntimeException) {
                Progress.Failed(XPertException.Internal("The run failed: ${error.javaClass.simpleName}. Please report it.", error))
            }
            if (!cancelled) return last
            folder.remove()
            return Progress.Stopped
        }

        private fun attempt(): Progress {
            val spec = folder.spec()
            val phone = Phone(context)
            phone.check(spec.gates, folder.path)?.let { return Progress.Paused(it) }
            val pieces = texts[folder.path.path] ?: folder.sealedTexts(keys) ?: return Progress.Paused(Pause.TEXTS_NEEDED)
            val opened = Engine.open(spec.bundle.path, options(spec))
            try {
                synchronized(lock) { engine = opened }
                halt?.let { return Progress.Paused(it) }
                // Not in the record, which is not sealed: how long the texts are is nobody's business.
                val request = JSONObject(spec.request.toString()).put("groups", JSONArray(pieces.map { it.text })).toString()
                val (prompts, texts) = pieces.map { it.pair.prompt } to pieces.map { it.pair.text }
                val json = opened.personalize(prompts, texts, request) { step, steps, loss, heldOut ->
                    state(folder).value = Progress.Step(step, steps, loss, heldOut.takeUnless(Double::isNaN))
                    halt = halt ?: phone.check(spec.gates, folder.path)
                    halt == null
                }
                return Progress.Done(PersonalizeResult.parse(json))
            } finally {
                synchronized(lock) { engine = null }
                opened.close()
            }
        }

        private fun options(spec: RunSpec) = engineOptions(spec.threads, spec.publicKey)
    }
}

internal fun engineOptions(threads: Int, publicKey: String?): String =
    JSONObject().put("threads", threads).apply { publicKey?.let { put("public_key", it) } }.toString()
