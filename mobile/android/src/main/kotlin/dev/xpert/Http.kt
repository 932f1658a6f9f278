package dev.xpert

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asExecutor
import kotlinx.coroutines.delay
import kotlinx.coroutines.suspendCancellableCoroutine
import org.json.JSONException
import org.json.JSONObject
import java.io.IOException
import java.io.InputStream
import java.io.InterruptedIOException
import java.net.HttpURLConnection
import java.net.URL
import java.util.concurrent.atomic.AtomicReference
import kotlin.coroutines.resume
import kotlin.coroutines.resumeWithException
import kotlin.random.Random

/** An answer whose body is still to be read. */
internal class Answer(val connection: HttpURLConnection, val status: Int, private val isActive: () -> Boolean) {
    /** Reads what has come; -1 at the end. Throws where nobody waits for it any more. */
    fun read(stream: InputStream, buffer: ByteArray): Int {
        val n = stream.read(buffer)
        if (!isActive()) throw InterruptedIOException("nobody waits for it any more")
        return n
    }

    fun header(name: String): String? = connection.getHeaderField(name)
}

/** GET requests to an XPerT server (docs/api.md): tried again where that helps, and ended with their coroutine. */
internal class Http(private val config: ServerConfig, private val pauses: Pauses = Pauses()) {
    private val origin = URL(config.url.trimEnd('/'))

    /** How long is waited before attempt 2, 3, …: growing, at random, so that not all phones come back at once. */
    class Pauses(private val first: Long = 500, private val most: Long = 30_000, private val random: Random = Random.Default) {
        fun before(attempt: Int, retryAfterSeconds: Long?): Long {
            val longest = minOf(most, first shl minOf(attempt, 16))
            return retryAfterSeconds?.let { minOf(it, MOST_ASKED) * 1000 } ?: (longest / 2 + random.nextLong(longest / 2 + 1))
        }
    }

    /**
     * Asks for [path], with [headers] made anew at each attempt, and hands what is no error to [read], which tells when bytes came.
     * Attempts count anew as long as bytes come: a long download over a bad network ends all the same.
     * [hasOlder]: something from before will do, so that nobody waits long for what is newer.
     */
    suspend fun <T : Any> get(
        path: String,
        headers: () -> Map<String, String>,
        hasOlder: Boolean = false,
        read: (Answer, came: () -> Unit) -> T,
    ): T {
        val attempts = if (hasOlder) minOf(config.attempts, QUICK) else config.attempts
        var attempt = 0
        while (true) {
            var came = false
            val failure = try {
                return once(path, headers()) { read(it) { came = true } }
            } catch (error: XPertException.Unavailable) {
                error
            }
            attempt = if (came) 1 else attempt + 1
            if (attempt >= attempts) throw failure
            delay(pauses.before(attempt, failure.retryAfterSeconds))
        }
    }

    /** Does not wait for a blocked read where its caller is gone: closing the connection may wait for that read itself. */
    private suspend fun <T> once(path: String, headers: Map<String, String>, read: (Answer) -> T): T =
        suspendCancellableCoroutine { caller ->
            val open = AtomicReference<HttpURLConnection?>()
            val threads = Dispatchers.IO.asExecutor()
            caller.invokeOnCancellation { threads.execute { open.get()?.disconnect() } }
            threads.execute {
                val result = runCatching {
                    val answer = follow(URL(origin.toString() + path), headers, caller::isActive, open::set)
                    if (answer.status >= 400 && answer.status != HTTP_RANGE) throw refusal(answer)
                    read(answer)
                }
                open.get()?.disconnect()
                result.fold(caller::resume) { caller.resumeWithException(if (it is IOException) broken(it) else it) }
            }
        }

    private fun broken(error: IOException) = XPertException.Unavailable(
        "The server ${origin.host} cannot be reached, or broke off (${error.javaClass.simpleName}). Try again later.",
        cause = error,
    )

    /** Follows redirects itself: the token is for the server, not for whom it leads to. */
    private fun follow(
        first: URL,
        headers: Map<String, String>,
        isActive: () -> Boolean,
        opened: (HttpURLConnection) -> Unit,
    ): Answer {
        var url = first
        repeat(MOST_REDIRECTS) {
            val connection = url.openConnection() as HttpURLConnection
            opened(connection)
            connection.instanceFollowRedirects = false
            connection.useCaches = false
            connection.connectTimeout = TIMEOUT
            connection.readTimeout = TIMEOUT
            headers.forEach(connection::setRequestProperty)
            connection.setRequestProperty("User-Agent", AGENT)
            // A compressed body could not be gone on with.
            connection.setRequestProperty("Accept-Encoding", "identity")
            if (url === first) connection.setRequestProperty("Authorization", "Bearer ${config.token.token()}")
            val status = connection.responseCode
            if (status !in REDIRECTS) return Answer(connection, status, isActive)
            url = URL(url, connection.getHeaderField("Location") ?: throw IOException("a redirect to nowhere"))
            if (first.protocol == "https" &&
                url.protocol != "https"
            ) {
                throw XPertException.Untrusted("The server leads from https to '${url.protocol}'. Nothing was fetched.")
            }
            connection.disconnect()
        }
        throw XPertException.Unavailable("The server leads in circles. Tell its owner.")
    }

    private fun refusal(answer: Answer): XPertException {
        val body = answer.connection.errorStream?.use { it.readNBytesOf(MOST_PROBLEM) }?.toString(Charsets.UTF_8).orEmpty()
        val detail = try {
            JSONObject(body).text("detail")
        } catch (_: JSONException) {
            null
        }
        val message = "The server answered ${answer.status}: ${detail ?: "no reason given"}"
        return when (answer.status) {
            401, 403 -> XPertException.Access("$message Give another token.")
            404, 410 -> XPertException.NotFound(message)
            429, 502, 503, 504, 507 -> XPertException.Unavailable(message, answer.header("Retry-After")?.trim()?.toLongOrNull())
            else -> XPertException.BadInput(message)
        }
    }

    companion object {
        const val HTTP_RANGE = 416
        private const val AGENT = "xpert-android/0.1.0"
        private const val TIMEOUT = 20_000
        private const val QUICK = 2
        private const val MOST_REDIRECTS = 5
        private const val MOST_PROBLEM = 1 shl 16
        private const val MOST_ASKED = 120L
        private val REDIRECTS = setOf(301, 302, 303, 307, 308)
    }
}

/** At most so many bytes; InputStream's own readNBytes is not on Android before 13. */
internal fun InputStream.readNBytesOf(most: Int): ByteArray {
    val out = java.io.ByteArrayOutputStream()
    val buffer = ByteArray(1 shl 14)
    while (out.size() < most) {
        val n = read(buffer, 0, minOf(buffer.size, most - out.size()))
        if (n < 0) break
        out.write(buffer, 0, n)
    }
    return out.toByteArray()
}
