package dev.xpert

import android.content.Context
import android.content.Intent
import android.os.BatteryManager

internal fun battery(context: Context, percent: Int, plugged: Boolean) {
    val intent = Intent(Intent.ACTION_BATTERY_CHANGED).putExtra(BatteryManager.EXTRA_LEVEL, percent)
        .putExtra(BatteryManager.EXTRA_SCALE, 100)
        .putExtra(BatteryManager.EXTRA_PLUGGED, if (plugged) BatteryManager.BATTERY_PLUGGED_AC else 0)
    @Suppress("DEPRECATION")
    context.sendStickyBroadcast(intent)
}
