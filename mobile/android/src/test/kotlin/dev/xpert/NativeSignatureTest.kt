package dev.xpert

import kotlinx.coroutines.runBlocking
import org.junit.After
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** Adapters signed by Python, checked by the native library, over real HTTP. */
@RunWith(RobolectricTestRunner::class)
class NativeSignatureTest {
    @get:Rule val folder = TemporaryFolder()
    private val http = FaultyServer()
    private val files = FaultyServer.adapter(File(Prepared.bundle.parentFile, "signed"))

    @After fun close() = http.close()

    private fun server(key: String) = Server(http.config(), folder.root, key, FaultyServer.BASE_DIGEST)

    @Test fun signedIsTaken() = runBlocking {
        http.publish("poetic", files)
        val adapter = server(Prepared.publicKey).adapter("poetic", null)
        for ((name, data) in files) assertContentEquals(data, File(adapter, name).readBytes())
    }

    @Test fun changedIsRefusedAndRemoved() = runBlocking<Unit> {
        // The server itself is the attacker: digests fit, the signature does not.
        val weights = files.getValue("adapter_model.safetensors").clone()
        weights[weights.size - 1] = (weights.last().toInt() xor 1).toByte()
        http.publish("poetic", files + ("adapter_model.safetensors" to weights))
        assertFailsWith<XPertException.Untrusted> { server(Prepared.publicKey).adapter("poetic", null) }
        assertEquals(emptyList(), folder.root.walk().filter { it.isFile }.toList())
        val swapped = files + ("adapter_model.safetensors.minisig" to files.getValue("adapter_config.json.minisig"))
        http.publish("swapped", swapped)
        assertFailsWith<XPertException.Untrusted> { server(Prepared.publicKey).adapter("swapped", null) }
    }

    @Test fun anotherKeyIsRefused() = runBlocking {
        http.publish("poetic", files)
        val lines = Prepared.publicKey.trim().lines()
        val key = lines.last().let { it.dropLast(6) + (if (it[it.length - 6] == 'A') 'B' else 'A') + it.takeLast(5) }
        assertFailsWith<XPertException.Untrusted> { server(key).adapter("poetic", null) }
        assertTrue(folder.root.walk().none { it.isFile })
    }
}
