package dev.xpert

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import org.json.JSONObject
import java.io.File
import java.net.InetAddress
import java.net.InetSocketAddress
import java.security.MessageDigest
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.Executors

/** An XPerT server as docs/api.md describes it, over real HTTP, which can be told to fail. */
internal class FaultyServer : AutoCloseable {
    class Asked(val path: String, val range: String?, val token: String?, val etag: String?)

    private val http = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0)
    private val threads = Executors.newCachedThreadPool()
    private val artifacts = HashMap<String, ByteArray>()
    private val records = HashMap<String, JSONObject>()
    val asked = CopyOnWriteArrayList<Asked>()
    val url get() = "http://127.0.0.1:${http.address.port}"

    @Volatile var catalogue = "a catalogue".toByteArray()

    /** Index and cells by name, as they lie in a folder; the index is "index". */
    @Volatile var cells: File = Prepared.cells

    /** The next cells are gone, as after a change of the catalogue. */
    @Volatile var gone = 0

    /** The next downloads end after so many bytes. */
    val cuts = ArrayDeque<Int>()

    /** The next requests are answered with a status and a Retry-After. */
    val refusals = ArrayDeque<Pair<Int, String?>>()

    /** The next downloads have a flipped bit. */
    @Volatile var damaged = 0

    /** Downloads stop in the middle, and nothing more comes. */
    @Volatile var stalled = false

    init {
        http.executor = threads
        http.createContext("/") { exchange -> exchange.use(::answer) }
        http.start()
    }

    fun publish(name: String, files: Map<String, ByteArray>, base: String = BASE_DIGEST, change: JSONObject.() -> Unit = {}) {
        val digests = files.mapValues { digest(it.value) }
        files.forEach { (file, data) -> artifacts[digests.getValue(file)] = data }
        records[name] = JSONObject().put("name", name).put("base", "starter").put("base_digest", base)
            .put("adapter_digest", digest(files.keys.joinToString().toByteArray() + name.toByteArray()))
            .put("adapter_bytes", files.values.sumOf { it.size }).put("files", JSONObject(digests.toMap())).apply(change)
    }

    fun config(attempts: Int = 4) = ServerConfig(url, "starter", { "secret" }, attempts)

    private inline fun HttpExchange.use(answer: (HttpExchange) -> Unit) = try {
        answer(this)
    } finally {
        close()
    }

    private fun answer(exchange: HttpExchange) {
        val path = exchange.requestURI.path
        val headers = exchange.requestHeaders
        asked += Asked(path, headers.getFirst("Range"), headers.getFirst("Authorization"), headers.getFirst("If-None-Match"))
        refusals.removeFirstOrNull()?.let { (status, after) ->
            after?.let { exchange.responseHeaders["Retry-After"] = it }
            return send(exchange, status, """{"status": $status, "detail": "busy", "code": "unavailable"}""".toByteArray())
        }
        val parts = path.trim('/').split('/')
        when {
            parts.size < 3 -> send(exchange, 404, "{}".toByteArray())

            parts[1] == "downloads" -> download(exchange, artifacts.getValue(parts[2]))

            headers.getFirst("Authorization") != "Bearer secret" -> send(exchange, 401, """{"detail": "no token"}""".toByteArray())

            parts[1] == "artifacts" -> {
                exchange.responseHeaders["Location"] = "/v1/downloads/${parts[2]}?expires=1&signature=2"
                send(exchange, 307, ByteArray(0))
            }

            parts.getOrNull(3) == "cells" -> cells(exchange, parts)

            parts[1] == "pllms" || (parts[1] == "catalogues" && parts.size == 5) -> {
                val record = records[parts.last()]
                val body = record ?: JSONObject().put("detail", "no such pLLM")
                send(exchange, if (record == null) 404 else 200, body.toString().toByteArray())
            }

            parts[1] == "catalogues" -> {
                val etag = "\"${digest(catalogue)}\""
                exchange.responseHeaders["ETag"] = etag
                if (headers.getFirst("If-None-Match") == etag) send(exchange, 304, ByteArray(0)) else send(exchange, 200, catalogue)
            }
        }
    }

    private fun cells(exchange: HttpExchange, parts: List<String>) {
        val file = File(cells, if (parts.size == 4) "index" else parts[4])
        val etag = "\"${File(cells, "digest").readText()}\""
        val isGone = parts.size == 5 && gone > 0
        if (isGone) gone--
        val body = if (isGone || !file.exists()) null else file.readBytes()
        val isKnown = parts.size == 4 && exchange.requestHeaders.getFirst("If-None-Match") == etag
        if (body != null && !isKnown && damaged > 0) {
            damaged--
            body[body.size / 2] = (body[body.size / 2].toInt() xor 1).toByte()
        }
        when {
            body == null -> send(exchange, 404, """{"detail": "There is no such cell."}""".toByteArray())
            isKnown -> send(exchange, 304, ByteArray(0))
            else -> send(exchange, 200, body)
        }
    }

    private fun send(exchange: HttpExchange, status: Int, body: ByteArray) {
        exchange.sendResponseHeaders(status, if (body.isEmpty()) -1L else body.size.toLong())
        if (body.isNotEmpty()) exchange.responseBody.write(body)
    }

    private fun download(exchange: HttpExchange, whole: ByteArray) {
        val start = exchange.requestHeaders.getFirst("Range")?.removePrefix("bytes=")?.removeSuffix("-")?.toInt()
        if (start != null && start >= whole.size) {
            exchange.responseHeaders["Content-Range"] = "bytes */${whole.size}"
            return send(exchange, 416, ByteArray(0))
        }
        val rest = whole.copyOfRange(start ?: 0, whole.size)
        if (damaged > 0) {
            damaged--
            rest[rest.size / 2] = (rest[rest.size / 2].toInt() xor 1).toByte()
        }
        if (start != null) exchange.responseHeaders["Content-Range"] = "bytes $start-${whole.size - 1}/${whole.size}"
        exchange.sendResponseHeaders(if (start == null) 200 else 206, rest.size.toLong())
        val most = if (stalled) rest.size / 2 else cuts.removeFirstOrNull() ?: rest.size
        exchange.responseBody.write(rest, 0, minOf(most, rest.size))
        exchange.responseBody.flush()
        while (stalled) Thread.sleep(20)
    }

    override fun close() {
        stalled = false
        http.stop(0)
        threads.shutdown()
    }

    companion object {
        val BASE_DIGEST = "b".repeat(64)

        fun digest(data: ByteArray): String = MessageDigest.getInstance("SHA-256").digest(data).joinToString("") { "%02x".format(it) }

        fun adapter(folder: File) = folder.listFiles()!!.associate { it.name to it.readBytes() }
    }
}
