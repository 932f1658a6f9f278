package dev.xpert

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.IBinder
import java.io.File

/** Trains at once, in the foreground, with a notification. What it cannot finish goes on as a job. */
class PersonalizationService : Service() {
    @Volatile private var run: Runs.Run? = null

    /** Nobody can bind to it. */
    override fun onBind(intent: Intent?): IBinder? = null

    /** Shows the notification and starts the run whose folder the intent names. */
    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        showNotification()
        val path = intent?.getStringExtra(RUN)
        if (path != null) {
            val folder = RunFolder(File(path))
            val started = Runs.start(this, folder) { last ->
                if (PersonalizationJobService.goesOn(last)) PersonalizationJobService.schedule(this, folder, folder.spec().gates)
                stopSelf(startId)
            }
            if (started != null) {
                run = started
            } else if (run == null) {
                stopSelf(startId)
            }
        } else {
            stopSelf(startId)
        }
        return START_NOT_STICKY
    }

    /** Android 15 gives dataSync services six hours a day, then a few seconds to stop before it ends the app. */
    override fun onTimeout(startId: Int, fgsType: Int) {
        run?.pause(Pause.SYSTEM)
        stopSelf()
    }

    /** Pauses what runs. */
    override fun onDestroy() {
        run?.pause(Pause.SYSTEM)
        super.onDestroy()
    }

    private fun showNotification() {
        service<NotificationManager>().createNotificationChannel(NotificationChannel(CHANNEL, LABEL, NotificationManager.IMPORTANCE_LOW))
        val icon = android.R.drawable.stat_notify_sync
        val notification = Notification.Builder(this, CHANNEL).setSmallIcon(icon).setContentTitle(LABEL).build()
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) startTyped(notification) else startForeground(NOTIFICATION, notification)
    }

    @NewerApi(29)
    private fun startTyped(notification: Notification) =
        startForeground(NOTIFICATION, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC)

    internal companion object {
        private const val RUN = "run"
        private const val CHANNEL = "dev.xpert.personalization"
        private const val LABEL = "Personalization"
        private const val NOTIFICATION = 7102

        fun intent(context: Context, folder: RunFolder): Intent =
            Intent(context, PersonalizationService::class.java).putExtra(RUN, folder.path.path)

        /** Starts it, or schedules the job where the app is not visible and may not. */
        fun start(context: Context, folder: RunFolder, gates: Gates) {
            try {
                context.startForegroundService(intent(context, folder))
            } catch (_: IllegalStateException) {
                PersonalizationJobService.schedule(context, folder, gates)
            }
        }
    }
}
