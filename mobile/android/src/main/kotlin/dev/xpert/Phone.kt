package dev.xpert

import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File

/** android-all marks getSystemService nullable where the SDK's stubs only warn. */
internal inline fun <reified T : Any> Context.service(): T =
    getSystemService(T::class.java) ?: throw XPertException.Internal("Android gives no ${T::class.simpleName}.")

/** Looks at the phone's state. */
internal class Phone(private val context: Context) {
    /** Why training must not run now, or null where it may. */
    fun check(gates: Gates, folder: File): Pause? {
        val power = context.service<PowerManager>()
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val level = battery?.getIntExtra(BatteryManager.EXTRA_LEVEL, -1) ?: -1
        val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, 100) ?: 100
        val plugged = battery?.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0) ?: 0
        return when {
            Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q && heat(power) > gates.maximumHeat -> Pause.TOO_HOT
            power.isPowerSaveMode -> Pause.POWER_SAVE
            gates.charging && plugged == 0 -> Pause.NOT_CHARGING
            level >= 0 && 100 * level < gates.minimumBattery * scale -> Pause.BATTERY_LOW
            folder.usableSpace < gates.minimumFreeBytes -> Pause.STORAGE_LOW
            else -> null
        }
    }

    @NewerApi(29)
    private fun heat(power: PowerManager) = power.currentThermalStatus
}
