package dev.xpert

import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import org.robolectric.Robolectric
import org.robolectric.shadow.api.Shadow
import org.robolectric.util.ReflectionHelpers
import kotlin.test.assertNotNull

/** What Android hands to the service of the job that is scheduled for a run. */
internal fun parameters(context: Context, run: RunFolder): JobParameters {
    val job = assertNotNull(context.service<JobScheduler>().getPendingJob(PersonalizationJobService.id(run)))
    val parameters = Shadow.newInstanceOf(JobParameters::class.java)
    ReflectionHelpers.setField(parameters, "jobId", job.id)
    ReflectionHelpers.setField(parameters, "extras", job.extras)
    return parameters
}

internal fun jobService(): PersonalizationJobService = Robolectric.buildService(PersonalizationJobService::class.java).create().get()
