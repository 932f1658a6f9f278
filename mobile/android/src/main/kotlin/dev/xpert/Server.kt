package dev.xpert

import dev.xpert.engine.Engine
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import org.json.JSONObject
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.net.HttpURLConnection.HTTP_NOT_MODIFIED
import java.net.HttpURLConnection.HTTP_PARTIAL

/** Told of the bytes that have come of all there are; on a background thread. */
fun interface BytesListener {
    /** [done] of [total] bytes have come. */
    fun onBytes(done: Long, total: Long)
}

/** What an XPerT server has for phones: its catalogue and its adapters. Sends names and digests, nothing that texts say. */
internal class Server(
    private val config: ServerConfig,
    private val folder: File,
    private val publicKey: String?,
    private val baseDigest: String,
    private val http: Http = Http(config),
) {
    private val one = Mutex()
    private val cells = Cells(config, folder, http)

    /** Gives [look] what selection needs for the texts whose cell [nearest] finds in an index: that of a large catalogue, else all of it. */
    suspend fun <T> withCandidates(nearest: suspend (File) -> Int, look: suspend (Candidates) -> T): T =
        cells.withCandidates(nearest) { look(it ?: Candidates(catalogue())) }

    /** The catalogue as it is now; the one that is here already, where the server is out of reach. */
    suspend fun catalogue(): File = one.withLock {
        val file = File(folder, "catalogues/${config.base}.xcat.safetensors")
        val etag = File(folder, "catalogues/${config.base}.etag")
        val known = if (file.exists() && etag.exists()) withContext(Dispatchers.IO) { readWhole(etag).toString(Charsets.UTF_8) } else null
        try {
            val headers = { known?.let { mapOf("If-None-Match" to it) }.orEmpty() }
            http.get("/v1/catalogues/${config.base}", headers, hasOlder = file.exists()) { answer, _ ->
                if (answer.status != HTTP_NOT_MODIFIED) {
                    val data = answer.connection.inputStream.use { it.readNBytesOf(MOST_CATALOGUE + 1) }
                    if (data.size > MOST_CATALOGUE) {
                        throw XPertException.BadFile("The catalogue has more than ${MOST_CATALOGUE shr 20} MiB. Ask for a smaller one.")
                    }
                    etag.delete()
                    writeWhole(file, data)
                    answer.header("ETag")?.let { writeWhole(etag, it.toByteArray()) }
                }
            }
        } catch (error: XPertException.Unavailable) {
            if (!file.exists()) throw error
        }
        file
    }

    /** The folder of a pLLM's adapter; [name] is its name, or its id in a catalogue. */
    suspend fun adapter(name: String, onBytes: BytesListener?): File = one.withLock {
        val record = JSONObject(record(name))
        val digest = safe(record.getString("adapter_digest"))
        record.text("quarantined")?.let {
            throw XPertException.Untrusted("The server has put '$name' in quarantine: $it. Choose another one.")
        }
        if (baseDigest.isNotEmpty() && record.getString("base_digest") != baseDigest) {
            throw XPertException.Mismatch("'$name' is made for another base model than the bundle's. Use a bundle of '${config.base}'.")
        }
        val done = File(folder, "adapters/$digest")
        if (!done.exists()) fetch(record, done, onBytes)
        done
    }

    private suspend fun record(name: String): String {
        val path = if (ID.matches(name)) "/v1/catalogues/${config.base}/pllms/$name" else "/v1/pllms/${config.base}/${safe(name)}"
        return http.get(path, { emptyMap() }) { answer, _ ->
            answer.connection.inputStream.use { it.readNBytesOf(MOST_RECORD) }.toString(Charsets.UTF_8)
        }
    }

    private suspend fun fetch(record: JSONObject, done: File, onBytes: BytesListener?) {
        val names = record.getJSONObject("files")
        val total = record.getLong("adapter_bytes")
        val part = File(folder, "adapters/.${done.name}.part")
        withContext(Dispatchers.IO) { makeFolder(part) }
        if (part.usableSpace < total) {
            throw XPertException.Storage("The adapter has $total bytes, ${part.usableSpace} are free. Free some space and try again.")
        }
        var before = 0L
        for (name in names.keys().asSequence().sorted().map(::safe)) {
            val digest = names.getString(name)
            val file = File(part, name)
            if (!file.exists()) fetch(file, safe(digest)) { onBytes?.onBytes(before + it, maxOf(total, before + it)) }
            before += file.length()
        }
        withContext(Dispatchers.IO) {
            publicKey?.let { verify(part, names.keys().asSequence().toSet(), it) }
            if (!part.renameTo(done)) throw XPertException.writing(done, IOException("it cannot be renamed into place"))
        }
    }

    /** Fetches a file whole, going on at its end; what has another digest is fetched once more, then refused. */
    private suspend fun fetch(file: File, digest: String, progress: (Long) -> Unit) {
        val part = File(file.parentFile, ".${file.name}.part")
        repeat(2) {
            val goOn = { if (part.length() > 0) mapOf("Range" to "bytes=${part.length()}-") else emptyMap() }
            http.get("/v1/artifacts/$digest", goOn) { answer, came -> append(part, answer, came, progress) }
            val found = withContext(Dispatchers.IO) { sha256(part) }
            if (found == digest) {
                if (!part.renameTo(file)) throw XPertException.writing(file, IOException("it cannot be renamed into place"))
                return
            }
            part.delete()
        }
        throw XPertException.BadFile(
            "'${file.name}' came twice with another content than its digest ${digest.take(12)} says. Nothing of it was kept. " +
                "Tell the server's owner: its store is damaged, or someone changes what passes.",
        )
    }

    private fun append(part: File, answer: Answer, came: () -> Unit, progress: (Long) -> Unit) {
        val known = part.length()
        if (answer.status == Http.HTTP_RANGE) {
            // All of it is here already, or more than there is: the digest knows which.
            return
        }
        val range = answer.header("Content-Range")?.let(RANGE::matchEntire)
        if (answer.status == HTTP_PARTIAL && range?.groupValues?.get(1)?.toLongOrNull() != known) {
            part.delete()
            throw XPertException.Unavailable("The server sent another range than asked for. Try again later.")
        }
        val start = if (answer.status == HTTP_PARTIAL) known else 0L
        val expected = answer.connection.contentLengthLong
        var done = start
        val stream = answer.connection.inputStream
        val out = try {
            FileOutputStream(part, start > 0)
        } catch (error: IOException) {
            throw XPertException.writing(part, error)
        }
        out.use {
            val buffer = ByteArray(1 shl 14)
            while (true) {
                val n = answer.read(stream, buffer)
                if (n < 0) break
                if (part.usableSpace < n) throw XPertException.writing(part, IOException("no space is left"))
                out.write(buffer, 0, n)
                came()
                done += n
                progress(done)
            }
        }
        if (expected >= 0 && done < start + expected) throw IOException("ended at $done of ${start + expected} bytes")
    }

    private fun verify(part: File, names: Set<String>, key: String) {
        for (name in names.filterNot { it.endsWith(SIGNATURE) }) {
            if (name + SIGNATURE !in names) {
                part.deleteRecursively()
                throw XPertException.Untrusted("'$name' of the adapter is not signed. Choose a signed one, or give no public key.")
            }
            try {
                typed { Engine.verifyFile(File(part, name).path, File(part, name + SIGNATURE).path, key) }
            } catch (error: XPertException) {
                part.deleteRecursively()
                throw error
            }
        }
    }

    private fun safe(name: String): String {
        if (!NAME.matches(name)) throw XPertException.BadFile("'${name.take(80)}' could lead elsewhere. Nothing was fetched.")
        return name
    }

    private companion object {
        const val SIGNATURE = ".minisig"
        const val MOST_CATALOGUE = 256 shl 20
        const val MOST_RECORD = 1 shl 20
        val ID = Regex("[0-9a-f]{16}")
        val NAME = Regex("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
        val RANGE = Regex("bytes (\\d+)-\\d+/(?:\\d+|\\*)")
    }
}
