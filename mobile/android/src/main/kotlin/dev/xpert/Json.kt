package dev.xpert

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** Reads what the native core or this library has written. */
internal inline fun <T> parsed(what: String, parse: () -> T): T = try {
    parse()
} catch (error: JSONException) {
    throw XPertException.Internal("The $what cannot be read: ${error.message}. Use native library and AAR of one version.", error)
}

/** The objects of a list, each made into something. */
internal fun <T> JSONArray.map(of: (JSONObject) -> T): List<T> = List(length()) { of(getJSONObject(it)) }

internal fun JSONArray.strings(): List<String> = List(length(), ::getString)

internal fun JSONArray.doubles(): List<Double> = List(length(), ::getDouble)

internal fun JSONArray.ints(): List<Int> = List(length(), ::getInt)

/** A string, or null where it is missing or null, which org.json would give as "null". */
internal fun JSONObject.text(name: String): String? = if (isNull(name)) null else getString(name)

/** A number, or NaN where it is missing or null, as JSON has no NaN. */
internal fun JSONObject.number(name: String): Double = if (isNull(name)) Double.NaN else getDouble(name)
