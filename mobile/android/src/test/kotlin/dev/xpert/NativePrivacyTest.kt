package dev.xpert

import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowLog
import org.robolectric.util.ReflectionHelpers
import java.io.File
import java.net.URI
import java.security.MessageDigest
import java.util.Base64
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertIs
import kotlin.test.assertNotEquals
import kotlin.test.assertNotNull
import kotlin.test.assertTrue

/** The main job of one user, with a network and a disk that are looked at byte by byte. */
@RunWith(RobolectricTestRunner::class)
class NativePrivacyTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()
    private val server = FaultyServer()

    @Before fun good() {
        battery(context, 80, true)
        server.catalogue = Prepared.catalogue.readBytes()
    }

    @After fun close() {
        server.close()
        Runs.forgetMemory()
    }

    private class Seen(val choice: String?, val sent: List<ByteArray>, val coefficients: List<Double>)

    private fun user(name: String, texts: List<String>): Seen = runBlocking {
        val phone = File(folder.root, name)
        RecordingProxy(URI(server.url).port).use { network ->
            val config = XPertConfig(Prepared.bundle, ServerConfig(network.url, "starter", { "secret" }), folder = phone)
            XPert.open(context, config).use { xpert ->
                val base = xpert.description.baseDigest
                val selection = xpert.select(texts.map(::PersonalText))
                val choice = selection.choice ?: selection.matches.first().name
                server.publish(choice, FaultyServer.adapter(Prepared.adapter("poetic")), base)
                val start = xpert.download(choice)
                train(xpert, phone, texts, PersonalizeOptions(start = start, maxSteps = 3, gates = Gates(minimumFreeBytes = 0)))
                xpert.generate("Invite Ann.", GenerateOptions(maxNewTokens = 4)).toList()
                assertTrue(sockets() <= before + 64)
                Seen(selection.choice, network.sent, selection.words.map { it.coefficient })
            }
        }
    }

    private val before = sockets()

    private fun sockets() = File("/proc/self/fd").listFiles().orEmpty().count { it.canonicalPath.startsWith("socket:") }

    private suspend fun train(xpert: XPert, phone: File, texts: List<String>, options: PersonalizeOptions) {
        assertIs<Progress.Scheduled>(xpert.personalize(listOf(TextSource.of(texts)), options).first())
        val run = RunFolder(File(phone, "runs/${options.name}"))
        val job = assertNotNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(run)))
        val params = Shadow.newInstanceOf(JobParameters::class.java)
        ReflectionHelpers.setField(params, "jobId", job.id)
        ReflectionHelpers.setField(params, "extras", job.extras)
        assertTrue(Robolectric.buildService(PersonalizationJobService::class.java).create().get().onStartJob(params))
        assertIs<Progress.Done>(withTimeout(120_000) { xpert.progress().first { it.ends } })
    }

    /** Texts of a style without a word in common with others' that a request could hold. */
    private fun styled(style: String, from: Int): List<String> {
        val golden = Prepared.golden()
        val row = (0 until golden.length()).map(golden::getJSONObject).single { it.getString("style") == style }
        return row.getJSONArray("texts").let { all -> List(10) { all.getString(from + it) } }
    }

    @Test fun theNetworkSeesNothingOfTheTexts() {
        val one = user("one", styled("poetic", 0))
        val other = user("two", styled("poetic", 10))
        assertEquals(one.choice, other.choice, "the test needs two users with one choice")
        assertNotEquals(one.coefficients, other.coefficients)
        // Not what is sent is judged, but whether it depends on the texts: two users send the same bytes, but for the port.
        // Index of the cells and the catalogue, the record, and each of three files with its redirection.
        assertEquals(9, requests(one).size)
        assertEquals(requests(one), requests(other))
        assertEquals(server.asked.take(9).map { it.path }, server.asked.drop(9).map { it.path })
        val sent = one.sent.reduce(ByteArray::plus)
        for (text in styled("poetic", 0)) for (trace in traces(text)) assertFalse(sent.holds(trace), "something of a text was sent")
        for (value in one.coefficients) assertFalse(sent.holds(value.toString().take(7).toByteArray()))
    }

    @Test fun theDiskAndTheLogHoldNothingOfTheTexts() {
        val texts = styled("poetic", 0)
        user("one", texts)
        val files = folder.root.walk().filter { it.isFile }.toList()
        assertTrue(files.any { it.name == "adapter_model.safetensors" && "runs" in it.path })
        // What everybody can download names texts of the StyleBank, which these are.
        val published = FaultyServer.adapter(Prepared.adapter("poetic")).values
        val words = texts.flatMap { text -> text.split(' ').windowed(3).map { it.joinToString(" ") } }
        for (file in files) {
            val bytes = file.readBytes()
            if (published.any(bytes::contentEquals)) continue
            for (trace in words) assertFalse(bytes.holds(trace.toByteArray()), file.name)
        }
        val logged = ShadowLog.getLogs().joinToString("\n") { "${it.tag} ${it.msg} ${it.throwable}" }
        for (trace in words) assertFalse(trace in logged)
    }

    /** Sorted, as which connection is used again is chance. */
    private fun requests(user: Seen) = user.sent.flatMap { withoutPort(it).split(Regex("(?=GET /)")) }.filter { it.isNotEmpty() }.sorted()

    private fun withoutPort(sent: ByteArray) = sent.toString(Charsets.ISO_8859_1).replace(Regex("127\\.0\\.0\\.1:\\d+"), "phone")

    /** Every three words in a row, in the ways in which they could be written, and the digests of the whole. */
    private fun traces(text: String): List<ByteArray> {
        val digests = listOf("SHA-256", "SHA-1", "MD5").map { MessageDigest.getInstance(it).digest(text.toByteArray()) }
        val hex = digests.map { digest -> digest.joinToString("") { "%02x".format(it) }.toByteArray() }
        val words = text.split(' ').windowed(3).map { it.joinToString(" ") }
        val encoded = (digests + text.toByteArray()).map { Base64.getEncoder().withoutPadding().encode(it).copyOf(16) }
        return digests + hex + encoded +
            words.flatMap { listOf(it.toByteArray(), it.toByteArray(Charsets.UTF_16LE), it.replace(" ", "%20").toByteArray()) }
    }

    private fun ByteArray.holds(part: ByteArray): Boolean =
        toString(Charsets.ISO_8859_1).contains(part.toString(Charsets.ISO_8859_1))
}
