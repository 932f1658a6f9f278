package dev.xpert

import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.app.job.JobService
import android.content.ComponentName
import android.content.Context
import android.os.PersistableBundle
import java.io.File

/** Trains as a job of Android's, which starts it again, in a new process if need be, until the run has ended. */
class PersonalizationJobService : JobService() {
    private val runs = HashMap<Int, Runs.Run>()

    /** Starts the run whose folder the job names; false where it runs already or has ended. */
    override fun onStartJob(params: JobParameters): Boolean {
        val path = params.extras.getString(RUN) ?: return false
        val run = Runs.start(this, RunFolder(File(path))) { last -> jobFinished(params, goesOn(last)) } ?: return false
        runs[params.jobId] = run
        return true
    }

    /** Android wants the phone back, or a constraint no longer holds. */
    override fun onStopJob(params: JobParameters): Boolean {
        val run = runs.remove(params.jobId) ?: return false
        run.pause(Pause.SYSTEM)
        return true
    }

    /** Pauses what runs. */
    override fun onDestroy() {
        runs.values.forEach { it.pause(Pause.SYSTEM) }
        super.onDestroy()
    }

    internal companion object {
        private const val RUN = "run"

        /** Without the texts a further try would do nothing; all other reasons pass. */
        fun goesOn(last: Progress) = last is Progress.Paused && last.reason != Pause.TEXTS_NEEDED

        fun id(folder: RunFolder): Int = folder.path.path.hashCode()

        fun schedule(context: Context, folder: RunFolder, gates: Gates) {
            val extras = PersistableBundle().apply { putString(RUN, folder.path.path) }
            val job = JobInfo.Builder(id(folder), ComponentName(context, PersonalizationJobService::class.java))
                .setExtras(extras).setRequiresCharging(gates.charging).setRequiresBatteryNotLow(true).setRequiresStorageNotLow(true)
                .setBackoffCriteria(JobInfo.DEFAULT_INITIAL_BACKOFF_MILLIS, JobInfo.BACKOFF_POLICY_LINEAR).build()
            if (context.service<JobScheduler>().schedule(job) != JobScheduler.RESULT_SUCCESS) {
                throw XPertException.Internal("Android refused the job. Check that the AAR's manifest is merged into the app's.")
            }
        }

        fun unschedule(context: Context, folder: RunFolder) = context.service<JobScheduler>().cancel(id(folder))
    }
}
