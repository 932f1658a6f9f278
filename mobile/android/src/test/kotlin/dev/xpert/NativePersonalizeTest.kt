package dev.xpert

import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import android.content.Intent
import android.os.PowerManager
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
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
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadow.api.Shadow
import org.robolectric.util.ReflectionHelpers
import java.io.File
import javax.crypto.spec.SecretKeySpec
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertIs
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Real training in the real services, with a phone whose state the tests change. */
@RunWith(RobolectricTestRunner::class)
class NativePersonalizeTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()
    private val power = context.service<PowerManager>()
    private val scope = CoroutineScope(Dispatchers.Default)
    private val sources = listOf(TextSource.of(Prepared.texts(12), "notes"))
    private val gates = Gates(minimumFreeBytes = 0)
    private val options = PersonalizeOptions(maxSteps = 8, checkpointEvery = 3, evalEvery = 4, patience = 100, gates = gates)

    @Before fun good() {
        battery(context, 80, true)
        Runs.keys = SecretKeySpec(ByteArray(32) { it.toByte() }, "AES").let { key -> TextKeys { key } }
    }

    @After fun forget() = Runs.forgetMemory()

    private fun config(name: String, storage: TextStorage = TextStorage.MEMORY) =
        XPertConfig(Prepared.bundle, folder = File(folder.root, name), textStorage = storage)

    private fun runFolder(name: String) = RunFolder(File(folder.root, "$name/runs/${options.name}"))

    /** Android starting the job that is scheduled, in a service of its own. */
    private fun startJob(name: String): Pair<PersonalizationJobService, JobParameters> {
        val job = assertNotNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(runFolder(name))))
        val params = Shadow.newInstanceOf(JobParameters::class.java)
        ReflectionHelpers.setField(params, "jobId", job.id)
        ReflectionHelpers.setField(params, "extras", job.extras)
        val service = Robolectric.buildService(PersonalizationJobService::class.java).create().get()
        assertTrue(service.onStartJob(params))
        return service to params
    }

    private suspend fun scheduled(xpert: XPert, name: String, how: PersonalizeOptions = options) {
        val first = xpert.personalize(sources, how).first()
        assertIs<Progress.Scheduled>(first)
        assertTrue(runFolder(name).open)
    }

    private suspend fun XPert.until(wanted: (Progress) -> Boolean): Progress = withTimeout(120_000) { progress().first(wanted) }

    /** What a run that nothing interrupts comes to. */
    private suspend fun straight(name: String = "straight"): PersonalizeResult = XPert.open(context, config(name)).use { xpert ->
        scheduled(xpert, name)
        startJob(name)
        assertIs<Progress.Done>(xpert.until { it.ends }).result
    }

    @Test fun aHotPhonePausesAndGoesOnToTheSameBits() = runBlocking {
        val whole = straight()
        assertEquals(8, whole.steps)
        assertTrue(whole.losses.last() < whole.losses.first())
        XPert.open(context, config("hot")).use { xpert ->
            scheduled(xpert, "hot")
            startJob("hot")
            xpert.until { it is Progress.Step && it.step >= 2 }
            shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
            assertEquals(Progress.Paused(Pause.TOO_HOT), xpert.until { it is Progress.Paused })
            startJob("hot")
            // The last pause is still what is seen: cooler before this run has looked, and it would train.
            awaitIdle("hot")
            assertEquals(Progress.Paused(Pause.TOO_HOT), xpert.until { it is Progress.Paused })
            shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_NONE)
            startJob("hot")
            val result = assertIs<Progress.Done>(xpert.until { it.ends }).result
            assertTrue(result.resumedFrom in 2..7)
            assertEquals(whole.digest, result.digest)
            assertFalse(runFolder("hot").open)
        }
    }

    private fun awaitIdle(name: String) {
        while (Runs.isRunning(runFolder(name))) Thread.yield()
    }

    @Test fun piecesOfALongTextAreHeldOutTogether() = runBlocking {
        val long = List(3) { text -> List(80) { "This is sentence number $it of note $text." }.joinToString(" ") }
        XPert.open(context, config("long")).use { xpert ->
            assertIs<Progress.Scheduled>(xpert.personalize(listOf(TextSource.of(long)), options.copy(maxSteps = 1)).first())
            startJob("long")
            val result = assertIs<Progress.Done>(xpert.until { it.ends }).result
            // Eight pieces each; a split that did not know of texts would hold out a fifth of the 24.
            assertEquals(16 to 8, result.nTrain to result.nHeldOut)
        }
    }

    @Test fun sealedTextsOutliveTheProcess() = runBlocking {
        val whole = straight()
        XPert.open(context, config("sealed", TextStorage.SEALED)).use { xpert ->
            scheduled(xpert, "sealed")
            val (service, params) = startJob("sealed")
            xpert.until { it is Progress.Step && it.step >= 4 }
            assertTrue(service.onStopJob(params), "Android is to start it again")
            assertEquals(Progress.Paused(Pause.SYSTEM), xpert.until { it is Progress.Paused })
            awaitIdle("sealed")
        }
        Runs.forgetMemory()
        context.service<JobScheduler>().cancelAll()
        XPert.open(context, config("sealed", TextStorage.SEALED)).use { xpert ->
            startJob("sealed")
            assertEquals(whole.digest, assertIs<Progress.Done>(xpert.until { it.ends }).result.digest)
        }
        assertNull(File(folder.root, "sealed").walk().firstOrNull { it.name == "texts.sealed" })
    }

    @Test fun textsInMemoryAreAskedForAgain() = runBlocking {
        val whole = straight()
        XPert.open(context, config("memory")).use { xpert ->
            scheduled(xpert, "memory")
            startJob("memory")
            xpert.until { it is Progress.Step && it.step >= 4 }
            battery(context, 80, false)
            assertEquals(Progress.Paused(Pause.NOT_CHARGING), xpert.until { it is Progress.Paused })
            awaitIdle("memory")
            battery(context, 80, true)
            Runs.forgetMemory()
            startJob("memory")
            assertEquals(Progress.Paused(Pause.TEXTS_NEEDED), xpert.until { it is Progress.Paused })
            awaitIdle("memory")
            scheduled(xpert, "memory")
            startJob("memory")
            val result = assertIs<Progress.Done>(xpert.until { it.ends }).result
            assertTrue(result.resumedFrom >= 4)
            assertEquals(whole.digest, result.digest)
        }
    }

    @Test fun theForegroundServiceStopsInTimeAndGoesOnAsAJob() = runBlocking {
        val whole = straight()
        XPert.open(context, config("now")).use { xpert ->
            scheduled(xpert, "now", options.copy(schedule = Schedule.NOW))
            val intent: Intent = assertNotNull(shadowOf(RuntimeEnvironment.getApplication()).nextStartedService)
            val controller = Robolectric.buildService(PersonalizationService::class.java, intent).create().startCommand(0, 1)
            assertNotNull(shadowOf(controller.get()).lastForegroundNotification)
            xpert.until { it is Progress.Step && it.step >= 2 }
            controller.get().onTimeout(1, 1)
            assertEquals(Progress.Paused(Pause.SYSTEM), xpert.until { it is Progress.Paused })
            awaitIdle("now")
            assertTrue(shadowOf(controller.get()).isStoppedBySelf)
            controller.destroy()
            startJob("now")
            assertEquals(whole.digest, assertIs<Progress.Done>(xpert.until { it.ends }).result.digest)
        }
    }

    @Test fun closingLetsTheRunGoOnAndCancellingEndsIt() = runBlocking {
        val xpert = XPert.open(context, config("closed"))
        scheduled(xpert, "closed", options.copy(maxSteps = 100_000))
        startJob("closed")
        xpert.until { it is Progress.Step }
        val answer = scope.async { xpert.generate("Tell me a story.", GenerateOptions(maxNewTokens = 8)).toList().joinToString("") }
        assertTrue(withTimeout(60_000) { answer.await() }.isNotEmpty(), "the app can answer while it trains")
        xpert.close()
        XPert.open(context, config("closed")).use { other ->
            val step = assertIs<Progress.Step>(other.until { it is Progress.Step })
            other.until { it is Progress.Step && it.step > step.step }
            val watched = scope.launch { other.progress().toList() }
            other.cancelPersonalization()
            assertEquals(Progress.Stopped, other.until { it.ends })
            watched.join()
        }
        awaitIdle("closed")
        assertFalse(runFolder("closed").path.exists())
        assertNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(runFolder("closed"))))
    }
}
