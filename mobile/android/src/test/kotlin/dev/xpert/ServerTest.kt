package dev.xpert

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import kotlin.random.Random
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue

class ServerTest {
    @get:Rule val folder = TemporaryFolder()
    private val http = FaultyServer()
    private val weights = Random(1).nextBytes(300_000)
    private val config = """{"peft_type": "LORA"}""".toByteArray()

    @After fun close() = http.close()

    private fun server(attempts: Int = 4): Server {
        val settings = http.config(attempts)
        return Server(settings, folder.root, null, FaultyServer.BASE_DIGEST, Http(settings, Http.Pauses(first = 2, most = 8)))
    }

    private fun publish(name: String = "poetic") = http.publish(
        name,
        mapOf(
            "adapter_model.safetensors" to weights,
            "adapter_config.json" to config
        )
    )

    private fun checkWhole(adapter: File) {
        assertContentEquals(weights, File(adapter, "adapter_model.safetensors").readBytes())
        assertContentEquals(config, File(adapter, "adapter_config.json").readBytes())
        assertEquals(2, adapter.list()!!.size)
    }

    @Test fun adapterComesWholeAndOnce() = runBlocking {
        publish()
        val seen = ArrayList<Pair<Long, Long>>()
        val adapter = server().adapter("poetic") { done, total -> seen += done to total }
        checkWhole(adapter)
        assertEquals(300_000L + config.size to 300_000L + config.size, seen.last())
        assertEquals(seen, seen.sortedBy { it.first })
        val n = http.asked.count { "downloads" in it.path }
        assertEquals(adapter, server().adapter("poetic", null))
        assertEquals(n, http.asked.count { "downloads" in it.path })
    }

    @Test fun theTokenGoesToTheServerAlone() = runBlocking {
        publish()
        server().adapter("poetic", null)
        assertTrue(http.asked.filter { "artifacts" in it.path }.all { it.token == "Bearer secret" })
        assertTrue(http.asked.filter { "downloads" in it.path }.all { it.token == null })
    }

    @Test fun cutDownloadGoesOnAtItsEnd() = runBlocking {
        publish()
        // The configuration comes first; then each connection brings a part of the weights, more often than there are attempts.
        http.cuts += listOf(config.size, 1000, 50_000, 1, 70_000, 30_000, 20_000)
        checkWhole(server(attempts = 2).adapter("poetic", null))
        val ranges = http.asked.filter { "downloads" in it.path }.mapNotNull { it.range }
        assertEquals(listOf(1000, 51_000, 51_001, 121_001, 151_001, 171_001).map { "bytes=$it-" }, ranges)
    }

    @Test fun aNewProcessGoesOn() = runBlocking {
        publish()
        http.cuts += listOf(config.size, 100_000)
        http.stalled = false
        assertFailsWith<XPertException.Unavailable> { server(attempts = 1).adapter("poetic", null) }
        checkWhole(server().adapter("poetic", null))
        assertEquals("bytes=100000-", http.asked.last().range)
    }

    @Test fun damagedBytesAreRefused() = runBlocking {
        publish()
        http.damaged = 1
        checkWhole(server().adapter("poetic", null))
        http.publish("other", mapOf("adapter_model.safetensors" to weights + 1))
        http.damaged = 2
        val error = assertFailsWith<XPertException.BadFile> { server().adapter("other", null) }
        assertTrue("twice" in error.message!!)
        val kept = folder.root.walk().filter { it.isFile && it.length() == weights.size + 1L }
        assertEquals(emptyList(), kept.toList())
    }

    @Test fun busyServerIsAskedAgain() = runBlocking {
        publish()
        http.refusals += listOf(503 to "0", 429 to "0", 502 to null)
        checkWhole(server().adapter("poetic", null))
        http.refusals += List(4) { 503 to "0" }
        val error = assertFailsWith<XPertException.Unavailable> { server().adapter("poetic", null) }
        assertEquals(0, error.retryAfterSeconds)
    }

    @Test fun retryAfterIsKept() {
        val pauses = Http.Pauses(first = 500, most = 30_000, random = Random(1))
        assertEquals(7_000, pauses.before(1, 7))
        assertEquals(120_000, pauses.before(1, 100_000), "no server holds a phone for a day")
        for (attempt in 1..40) assertTrue(pauses.before(attempt, null) in 500..30_000)
    }

    @Test fun refusalsAreTyped() = runBlocking<Unit> {
        publish()
        assertFailsWith<XPertException.NotFound> { server().adapter("none", null) }
        val settings = ServerConfig(http.url, "starter", { "wrong" }, 4)
        assertFailsWith<XPertException.Access> { Server(settings, folder.root, null, FaultyServer.BASE_DIGEST).adapter("poetic", null) }
        http.publish("foreign", mapOf("adapter_model.safetensors" to weights), base = "c".repeat(64))
        assertFailsWith<XPertException.Mismatch> { server().adapter("foreign", null) }
        http.publish("bad", mapOf("adapter_model.safetensors" to weights)) { put("quarantined", "it diverges") }
        assertFailsWith<XPertException.Untrusted> { server().adapter("bad", null) }
        val before = http.asked.size
        assertFailsWith<XPertException.BadFile> { server().adapter("../../etc", null) }
        assertEquals(before, http.asked.size)
    }

    @Test fun namesThatLeadElsewhereAreRefused() = runBlocking {
        http.publish("evil", mapOf("../../evil.sh" to weights))
        assertFailsWith<XPertException.BadFile> { server().adapter("evil", null) }
        assertFalse(File(folder.root.parentFile, "evil.sh").exists())
    }

    @Test fun unsignedIsRefusedWhereAKeyIsConfigured() = runBlocking {
        publish()
        val settings = http.config()
        val strict = Server(settings, folder.root, "a public key", FaultyServer.BASE_DIGEST)
        val error = assertFailsWith<XPertException.Untrusted> { strict.adapter("poetic", null) }
        assertTrue("not signed" in error.message!!)
        assertEquals(emptyList(), folder.root.walk().filter { it.isFile }.toList())
    }

    @Test fun catalogueIsFetchedOnceAndServesOffline() = runBlocking {
        val file = server().catalogue()
        assertContentEquals(http.catalogue, file.readBytes())
        server().catalogue()
        assertEquals("\"${FaultyServer.digest(http.catalogue)}\"", http.asked.last().etag)
        http.catalogue = "a newer one".toByteArray()
        assertEquals("a newer one", server().catalogue().readText())
        http.close()
        assertEquals("a newer one", server(attempts = 2).catalogue().readText())
        assertTrue(file.delete())
        assertFailsWith<XPertException.Unavailable> { server(attempts = 2).catalogue() }
        assertNull(file.parentFile!!.list()!!.firstOrNull { it.endsWith(".part") })
    }

    @Test fun cancelledDownloadEndsAtOnce() = runBlocking {
        publish()
        http.cuts += listOf(config.size)
        http.stalled = true
        val download = CoroutineScope(Dispatchers.Default).async { server().adapter("poetic", null) }
        while (http.asked.none { "downloads" in it.path }) delay(5)
        delay(50)
        download.cancel()
        // The read would wait for 20 s.
        withTimeout(5_000) { download.join() }
        assertTrue(download.isCancelled)
    }
}
