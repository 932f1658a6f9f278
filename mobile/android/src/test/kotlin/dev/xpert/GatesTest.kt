package dev.xpert

import android.app.job.JobScheduler
import android.content.Context
import android.os.PowerManager
import kotlinx.coroutines.flow.filterNotNull
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.json.JSONObject
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

@RunWith(RobolectricTestRunner::class)
class GatesTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()
    private val power = context.service<PowerManager>()

    @Before fun good() = battery(context, 80, true)

    private fun check(gates: Gates = Gates()) = Phone(context).check(gates, folder.root)

    @Test fun everyGate() {
        assertNull(check())
        battery(context, 20, true)
        assertEquals(Pause.BATTERY_LOW, check())
        assertNull(check(Gates(minimumBattery = 20)))
        battery(context, 80, false)
        assertEquals(Pause.NOT_CHARGING, check())
        assertNull(check(Gates(charging = false)))
        battery(context, 80, true)
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_LIGHT)
        assertNull(check())
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_MODERATE)
        assertEquals(Pause.TOO_HOT, check())
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_NONE)
        shadowOf(power).setIsPowerSaveMode(true)
        assertEquals(Pause.POWER_SAVE, check())
        shadowOf(power).setIsPowerSaveMode(false)
        assertEquals(Pause.STORAGE_LOW, check(Gates(minimumFreeBytes = Long.MAX_VALUE)))
    }

    @Test fun theJobAsksForWhatTheGatesNeed() {
        val run = RunFolder(File(folder.root, "personal"))
        PersonalizationJobService.schedule(context, run, Gates())
        val job = assertNotNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(run)))
        assertTrue(job.isRequireCharging && job.isRequireBatteryNotLow && job.isRequireStorageNotLow)
        assertFalse(job.isPersisted, "keeping a job over a restart takes a permission")
        assertEquals(PersonalizationJobService::class.java.name, job.service.className)
        PersonalizationJobService.unschedule(context, run)
        assertNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(run)))
    }

    @Test fun aRunOutlivesItsProcessInItsFolder() {
        val run = RunFolder(folder.newFolder("personal"))
        val options = PersonalizeOptions(targetLoss = 1.5, gates = Gates(charging = false, minimumBattery = 55))
        val spec = RunSpec(File("a.xpert"), "key", 3, TextStorage.SEALED, options.gates, options.request(run.adapter))
        run.write(spec)
        val read = RunFolder(run.path).spec()
        assertEquals(spec.json(), read.json())
        assertEquals(options.gates, read.gates)
        val request: JSONObject = read.request
        assertEquals(1.5, request.getDouble("target_loss"))
        assertTrue(request.isNull("start"))
    }

    @Test fun nothingIsStartedForARunThatHasEnded() {
        val run = RunFolder(File(folder.root, "none"))
        PersonalizationJobService.schedule(context, run, Gates())
        assertFalse(jobService().onStartJob(parameters(context, run)))
        assertNull(Runs.start(context, run) { })
    }

    /** A scheduled run whose texts this process does not have. */
    private fun waiting(): RunFolder {
        val run = RunFolder(folder.newFolder("waiting"))
        val options = PersonalizeOptions(gates = Gates(minimumFreeBytes = 0))
        run.write(RunSpec(File("a.xpert"), null, 2, TextStorage.MEMORY, options.gates, options.request(run.adapter)))
        PersonalizationJobService.schedule(context, run, options.gates)
        return run
    }

    private fun started(run: RunFolder): Progress = runBlocking {
        Runs.state(run).value = null
        assertTrue(jobService().onStartJob(parameters(context, run)))
        withTimeout(20_000) { Runs.state(run).filterNotNull().first() }
    }

    @Test fun aPhoneThatIsNotFitStartsNothing() {
        val run = waiting()
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_CRITICAL)
        val hot = started(run)
        assertEquals(Progress.Paused(Pause.TOO_HOT), hot)
        assertTrue(PersonalizationJobService.goesOn(hot), "Android is to try again")
        shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_NONE)
        battery(context, 80, false)
        assertEquals(Progress.Paused(Pause.NOT_CHARGING), started(run))
        assertTrue(run.open)
    }

    @Test fun withoutItsTextsARunWaits() {
        val run = waiting()
        val found = started(run)
        assertEquals(Progress.Paused(Pause.TEXTS_NEEDED), found)
        assertFalse(PersonalizationJobService.goesOn(found), "a further try would do nothing")
        Runs.cancel(run)
        assertFalse(run.path.exists())
        assertEquals(Progress.Stopped, Runs.state(run).value)
    }
}
