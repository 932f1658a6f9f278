package dev.xpert

import android.content.Context
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.junit.After
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File
import java.net.URI
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue

/** Choices from a cell of a larger catalogue, against Python's from the same cell, over a network that is looked at byte by byte. */
@RunWith(RobolectricTestRunner::class)
class NativeCellsTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()
    private val server = FaultyServer()
    private val golden = Prepared.goldenCells().map { it }

    @After fun close() = server.close()

    private fun config(url: String, phone: String) =
        XPertConfig(Prepared.bundle, ServerConfig(url, "starter", { "secret" }, mostWholeBytes = 0), folder = File(folder.root, phone))

    private fun texts(row: JSONObject) = row.getJSONArray("texts").strings().map(::PersonalText)

    @Test fun choosesFromTheCellThatPythonFindsWhatPythonChooses() = runBlocking {
        assertTrue(golden.map { it.getString("cell") }.toSet().size > 4)
        XPert.open(context, config(server.url, "phone")).use { xpert ->
            for (row in golden) {
                val found = xpert.select(texts(row))
                assertTrue(File(folder.root, "phone/cells/starter/${row.getString("cell")}.xcat.safetensors").exists())
                assertEquals(row.text("choice"), found.choice, row.getString("style"))
                assertEquals(row.getDouble("confidence"), found.confidence, 1e-3)
                assertEquals(row.getDouble("similarity"), found.similarity, 1e-3)
            }
        }
    }

    @Test fun theServerSeesEightCellsAndNothingElse() = runBlocking {
        val row = golden.first { it.getString("style") == "poetic" }
        RecordingProxy(URI(server.url).port).use { network ->
            XPert.open(context, config(network.url, "phone")).use { it.select(texts(row)) }
            val asked = server.asked.map { it.path }
            assertEquals("/v1/catalogues/starter/cells", asked.first())
            val cells = asked.drop(1).map { it.substringAfter("/v1/catalogues/starter/cells/") }
            assertEquals(8, cells.toSet().size)
            assertEquals(8, cells.size)
            assertTrue(row.getString("cell") in cells)
            // But for the cell's number, all that is sent is the same for the cell that is wanted and for the decoys.
            val requests = network.sent.flatMap { it.toString(Charsets.ISO_8859_1).split(Regex("(?=GET /)")) }.filter { "/cells/" in it }
            assertEquals(1, requests.map { it.replace(Regex("cells/[0-9a-f]{16}-\\d+"), "cells/ID") }.toSet().size)
            val sent = network.sent.joinToString("") { it.toString(Charsets.ISO_8859_1) }
            for (text in texts(row)) {
                for (words in text.text.split(' ').windowed(3)) assertFalse(words.joinToString(" ") in sent)
            }
        }
    }
}
