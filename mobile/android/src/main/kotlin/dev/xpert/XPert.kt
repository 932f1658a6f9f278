package dev.xpert

import android.content.Context
import dev.xpert.engine.Engine
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.trySendBlocking
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.filterNotNull
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.transformWhile
import kotlinx.coroutines.withContext
import org.json.JSONArray
import org.json.JSONObject
import java.io.File

/**
 * What a bundle holds.
 *
 * @property name of the bundle
 * @property baseDigest of its base model, "" where it has none
 * @property spaceDigest of its style space, or null
 * @property words of the style space
 * @property json the native core's whole answer
 */
data class Description(val name: String, val baseDigest: String, val spaceDigest: String?, val words: List<String>, val json: String)

/**
 * XPerT on the phone: chooses the personal LLM nearest to the user's texts, fetches it, fine-tunes it and answers with it. No text leaves
 * the phone.
 *
 * Thread-safe. Suspending calls run one after another and end with their coroutine. Errors are [XPertException].
 *
 * @property description what the opened bundle holds
 */
class XPert private constructor(
    private val context: Context,
    private val config: XPertConfig,
    private val folder: File,
    private val calls: EngineCalls,
    val description: Description,
) : AutoCloseable {
    private val server = config.server?.let { Server(it, folder, config.publicKey, description.baseDigest) }

    /**
     * Chooses the pLLM for the user's texts, or abstains.
     *
     * [catalogue] is a catalogue's file. Where it is null the server's is fetched, or the fetched one used where it is unreachable: whole
     * where it is small, of a large one the user's cell among decoys ([ServerConfig.cells]). A merge is proposed where the pLLMs are few
     * enough to try all pairs.
     * [baseAnswers] are the base's answers to the texts' prompts, as many as texts.
     */
    @JvmOverloads
    suspend fun select(
        texts: List<PersonalText>,
        catalogue: File? = null,
        baseAnswers: List<String>? = null,
        minConfidence: Double = 0.5,
        seed: Long = 0,
    ): Selection {
        if (baseAnswers != null && baseAnswers.size != texts.size) {
            throw XPertException.BadInput("There are ${baseAnswers.size} answers of the base for ${texts.size} texts. Give one each.")
        }
        val distinct = if (baseAnswers == null) Preparation.distinct(texts) else texts
        if (distinct.isEmpty()) throw XPertException.BadInput("No text says anything: ${texts.size} were given. Give texts with words.")
        val said = distinct.map { it.text }
        val options = JSONObject().put("min_confidence", minConfidence).put("seed", seed).put("merge", "if_few")
        suspend fun choose(among: Candidates): Selection {
            val given = options.put("index", among.index?.path ?: JSONObject.NULL).toString()
            return Selection.parse(calls.call { engine, _ -> engine.select(among.file.path, said, baseAnswers, given) })
        }
        if (catalogue != null) return choose(Candidates(catalogue))
        return needServer().withCandidates({ index -> nearestCell(index, said) }, ::choose)
    }

    private suspend fun nearestCell(index: File, texts: List<String>): Int {
        val json = calls.call { engine, _ -> engine.nearestCells(index.path, texts) }
        return parsed("nearest cells") { JSONObject(json).getJSONArray("cells").getJSONObject(0).getInt("number") }
    }

    /** Fetches the server's catalogue whole, or looks whether it is still the newest: 304 costs nothing. */
    suspend fun catalogue(): File = needServer().catalogue()

    /** Fetches a pLLM's adapter, goes on with a download that was cut, checks digests and, with a public key, signatures. */
    @JvmOverloads
    suspend fun download(name: String, onBytes: BytesListener? = null): File = needServer().adapter(name, onBytes)

    /** Merges adapters exactly, base + sum of weight x (pLLM - base); [adapters] are folders. */
    suspend fun merge(adapters: Map<File, Double>, name: String): File {
        val out = File(File(folder, "merged"), name)
        val sources = JSONArray(adapters.map { JSONObject().put("adapter", it.key.path).put("weight", it.value) })
        val request = JSONObject().put("sources", sources).put("out", out.path).toString()
        withContext(Dispatchers.IO) { makeFolder(out.parentFile!!) }
        calls.call { engine, _ -> engine.merge(request) }
        return out
    }

    /** Makes training pairs of texts, with a report; nothing is written. [personalize] does it by itself. */
    @JvmOverloads
    suspend fun prepare(sources: List<TextSource>, preparation: Preparation = Preparation()): PreparedTexts =
        calls.call { engine, _ -> preparation.prepare(sources) { JSONObject(engine.tokenize(it)).getJSONArray("ids").length() } }

    /**
     * Fine-tunes on the user's texts in the background, through Android's scheduler.
     *
     * The run starts with the collection and does not need it: who stops collecting, or closes this object, stops watching only. It
     * survives the process as [TextStorage] says; [cancelPersonalization] ends it.
     */
    @JvmOverloads
    fun personalize(sources: List<TextSource>, options: PersonalizeOptions = PersonalizeOptions()): Flow<Progress> = flow {
        val prepared = prepare(sources, options.preparation)
        if (prepared.pieces.isEmpty()) {
            throw XPertException.BadInput("No text is left to train on: ${prepared.report}. Give texts with words.")
        }
        val run = run(options.name)
        makeFolder(run.path)
        val spec = RunSpec(config.bundle, config.publicKey, config.threads, config.textStorage, options.gates, options.request(run.adapter))
        Runs.submit(run, spec, prepared.pieces, Progress.Scheduled(prepared.report))
        when (options.schedule) {
            Schedule.WHEN_CHARGING -> PersonalizationJobService.schedule(context, run, options.gates)
            Schedule.NOW -> PersonalizationService.start(context, run, options.gates)
        }
        watch(run).collect { emit(it) }
    }.flowOn(Dispatchers.IO)

    /** Follows a run that was started before, also by a process that is gone. */
    @JvmOverloads
    fun progress(name: String = PersonalizeOptions().name): Flow<Progress> = watch(run(name))

    /** Ends a run for good: adapter, checkpoint and sealed texts are removed. */
    @JvmOverloads
    fun cancelPersonalization(name: String = PersonalizeOptions().name) {
        PersonalizationJobService.unschedule(context, run(name))
        Runs.cancel(run(name))
    }

    /** Answers a prompt, piece by piece; ends with the collection. */
    @JvmOverloads
    fun generate(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<String> = channelFlow {
        calls.call { engine, isActive ->
            engine.generate(prompt, options.request()) { piece ->
                isActive() && trySendBlocking(piece.toString(Charsets.UTF_8)).isSuccess
            }
        }
    }.buffer(Channel.UNLIMITED)

    /** Ends running calls, which throw [XPertException.Cancelled], and frees the model. Closing twice is fine. */
    override fun close() = calls.close()

    private fun watch(run: RunFolder): Flow<Progress> = Runs.state(run).filterNotNull().transformWhile {
        emit(it)
        !it.ends
    }

    private fun run(name: String) = RunFolder(File(File(folder, "runs"), name))

    private fun needServer() = server
        ?: throw XPertException.BadInput("No server is configured, and no file was given. Give XPertConfig a server, or pass the file.")

    /** Where an [XPert] comes from. */
    companion object {
        /** Opens a bundle after checking it, which reads all of it the first time; goes on with runs that were cut off. */
        @JvmStatic
        suspend fun open(context: Context, config: XPertConfig): XPert = withContext(Dispatchers.IO) {
            val application = context.applicationContext ?: context
            val folder = config.folder ?: File(application.noBackupFilesDir, "xpert")
            makeFolder(folder)
            val engine = typed { Engine.open(config.bundle.path, engineOptions(config.threads, config.publicKey)) }
            try {
                XPert(application, config, folder, EngineCalls(engine), describe(typed { engine.describe() })).apply { goOn() }
            } catch (error: XPertException) {
                engine.close()
                throw error
            }
        }

        private fun describe(json: String): Description = parsed("description") {
            val all = JSONObject(json)
            Description(
                name = all.getString("name"),
                baseDigest = all.text("base_digest").orEmpty(),
                spaceDigest = all.text("space_digest"),
                words = all.optJSONArray("words")?.strings().orEmpty(),
                json = json,
            )
        }
    }

    /** JobScheduler forgets jobs when the phone starts anew; keeping them would take a permission more. */
    private fun goOn() {
        val runs = File(folder, "runs").listFiles().orEmpty().map(::RunFolder).filter { it.open && !Runs.isRunning(it) }
        for (run in runs) {
            val spec = run.spec()
            if (spec.storage == TextStorage.SEALED) PersonalizationJobService.schedule(context, run, spec.gates)
        }
    }
}

/** Waits for the end of a run and gives its result; throws what it failed with. */
suspend fun Flow<Progress>.result(): PersonalizeResult = when (val last = first { it.ends }) {
    is Progress.Done -> last.result
    is Progress.Failed -> throw last.error
    else -> throw XPertException.Cancelled("The personalization was cancelled.")
}
