package dev.xpert

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeoutOrNull
import org.json.JSONArray
import org.json.JSONObject
import org.junit.After
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotEquals
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Cells, as a phone asks for them: among others, always the same others. */
class CellsTest {
    @get:Rule val folder = TemporaryFolder()
    private val http = FaultyServer()

    @After fun close() = http.close()

    private fun cells(count: Int = 8, mostWhole: Long? = 0, attempts: Int = 2, phone: String = "phone"): Cells {
        val settings = ServerConfig(http.url, "starter", { "secret" }, attempts, count, mostWhole)
        return Cells(settings, File(folder.root, phone), Http(settings, Http.Pauses(first = 2, most = 8)))
    }

    private suspend fun Cells.candidates(nearest: suspend (File) -> Int) = withCandidates(nearest) { it }

    private fun kept(phone: String = "phone") = File(folder.root, "$phone/cells/starter")

    private fun places(): List<String> {
        val all = JSONObject(File(kept(), "cells.json").readText()).getJSONArray("decoys")
        return List(all.length()) { all.getJSONArray(it).toString() }
    }

    /** Names of the cells that were asked for since the last call. */
    private fun asked(): List<String> =
        http.asked.map { it.path }.also { http.asked.clear() }.filter { "/cells/" in it }.map { it.substringAfterLast('/') }

    @Test fun theSameCellsAreAskedForWheneverItAsks() = runBlocking {
        val first = assertNotNull(cells().candidates { 3 })
        val before = asked()
        assertEquals(8, before.toSet().size)
        val name = first.file.name.substringBefore('.')
        assertTrue(name.endsWith("-3") && name in before)
        assertEquals(File(http.cells, name).readBytes().toList(), first.file.readBytes().toList())
        assertEquals(first.file, cells().candidates { 3 }?.file)
        assertEquals(emptyList(), asked(), "it is kept, and nobody is asked")
        assertTrue(first.file.delete())
        cells().candidates { 3 }
        assertEquals(before.sorted(), asked().sorted(), "never the one that is missing alone")
        cells().candidates { 20 }
        val other = asked()
        assertEquals(8, other.toSet().size)
        // The new one is there, and where it was a decoy another one comes; nothing is new where both of them are decoys.
        assertTrue((other - before.toSet()).size <= 2)
    }

    @Test fun everyPhoneHasDecoysOfItsOwn() = runBlocking {
        val phones = List(6) { phone ->
            cells(phone = "phone$phone").candidates { 3 }
            asked().toSet()
        }
        // Two may draw the same by chance, once in some thousand runs.
        assertTrue(phones.toSet().size >= phones.size - 1)
    }

    @Test fun decoysStayWhereTheyAreWhenTheCatalogueChanges() = runBlocking {
        val old = assertNotNull(cells().candidates { 3 })
        val before = places()
        http.cells = Prepared.otherCells
        asked()
        val new = assertNotNull(cells().candidates { 3 })
        assertEquals(before, places().take(before.size))
        assertEquals(8, asked().toSet().size)
        assertNotEquals(old.index, new.index)
        assertEquals(setOf("cells.json", new.file.name, new.index!!.name), kept().list()!!.toSet())
    }

    @Test fun filesStayForAsLongAsSomebodyLooksAtThem() = runBlocking<Unit> {
        val cells = cells()
        val (looking, goOn) = List(2) { CompletableDeferred<Unit>() }
        val first = async(Dispatchers.Default) {
            cells.withCandidates({ 3 }) {
                looking.complete(Unit)
                goOn.await()
                assertTrue(it!!.file.exists() && it.index!!.exists())
                it.index
            }
        }
        looking.await()
        http.cells = Prepared.otherCells
        val second = async(Dispatchers.Default) { cells.candidates { 3 } }
        assertNull(withTimeoutOrNull(500) { second.await() }, "the newer index waits")
        goOn.complete(Unit)
        assertNotEquals(first.await(), assertNotNull(second.await()).index)
    }

    @Test fun decoysThatASmallCatalogueHadNoCellsForAreDrawnOnceItGrows() = runBlocking {
        cells().candidates { 3 }
        val first = places().first()
        // What the index of a catalogue with a single cell leaves behind.
        val record = File(kept(), "cells.json")
        val facts = JSONObject(record.readText())
        record.writeText(facts.put("decoys", JSONArray().put(facts.getJSONArray("decoys").get(0))).toString())
        http.cells = Prepared.otherCells
        asked()
        val rounds = List(3) {
            assertTrue(assertNotNull(cells().candidates { 3 }).file.delete())
            asked().toSet()
        }
        assertEquals(8, rounds.first().size)
        assertEquals(1, rounds.toSet().size, "the same ones every time")
        assertEquals(first, places().first())
    }

    @Test fun eachOfTheCellsIsAsOftenTheFirstThatIsAskedFor() {
        val index = CellIndex(File("none"), "a".repeat(64), 1000, 50, (10..29).toList())
        val orders = List(800) { cells(4).numbers(index, 3) }
        assertEquals(setOf(setOf(3, 10, 11, 12)), orders.map { it.toSet() }.toSet())
        // 200 each are expected; less than 130 has a chance of 1 in 10 million.
        for (place in 0..3) assertTrue(orders.count { it[place] == 3 } > 130)
        assertEquals(setOf(10, 11, 12, 13), cells(4).numbers(index, 10).toSet(), "one's own cell is no decoy")
        val together = CellIndex(File("none"), "a".repeat(64), 1000, 50, listOf(7, 7, 7))
        assertEquals(4, cells(4).numbers(together, 0).toSet().size, "places that fell together are made up for")
        assertEquals((0..49).toSet(), cells(128).numbers(index, 3).toSet())
        assertEquals(listOf(3), cells(1).numbers(index, 3))
    }

    @Test fun aSmallCatalogueComesWholeAndNoCellIsAskedFor() = runBlocking<Unit> {
        assertNull(cells(mostWhole = null).candidates { error("nobody asks for a cell") })
        assertNull(cells(mostWhole = 400 * 64).candidates { error("nobody asks for a cell") })
        assertEquals(emptyList(), asked())
        assertNotNull(cells(mostWhole = 400 * 64 - 1).candidates { 0 })
    }

    @Test fun anIndexThatWasReplacedMeanwhileIsFetchedAgain() = runBlocking<Unit> {
        http.gone = 1
        assertNotNull(cells().candidates { 3 })
        assertEquals(2, http.asked.count { it.path.endsWith("/cells") })
        http.gone = 2
        assertFailsWith<XPertException.NotFound> { cells(phone = "other").candidates { 3 } }
    }

    @Test fun itIsThereWhileTheServerIsNot() = runBlocking<Unit> {
        val first = assertNotNull(cells().candidates { 3 })
        asked()
        repeat(2) { http.refusals += 503 to null }
        assertEquals(first.file, cells(attempts = 6).candidates { 3 }?.file)
        assertEquals(2, http.asked.size, "nobody waits for more than a second attempt")
        http.close()
        assertEquals(first.file, cells().candidates { 3 }?.file)
        assertFailsWith<XPertException.Unavailable> { cells().candidates { 4 } }
        assertFailsWith<XPertException.Unavailable> { cells(phone = "other").candidates { 3 } }
    }

    @Test fun damagedFilesAreNeverKept() = runBlocking {
        http.damaged = 1
        assertFailsWith<XPertException.BadFile> { cells().candidates { 3 } }
        assertEquals(emptyList(), kept().list()!!.toList())
        assertNotNull(cells().candidates { 4 })
        http.damaged = 8
        assertFailsWith<XPertException.BadFile> { cells().candidates { 3 } }
        val found = assertNotNull(cells().candidates { 3 })
        for (file in kept().listFiles()!!) file.writeBytes(file.readBytes().let { it.copyOf(it.size - 1) })
        assertEquals(found.file, cells().candidates { 3 }?.file)
        assertEquals(File(http.cells, found.file.name.substringBefore('.')).readBytes().toList(), found.file.readBytes().toList())
        assertTrue(kept().list()!!.none { it.endsWith(".new") || it.endsWith(".part") })
    }

    @Test fun numbersOfCellsThatMakeNoSenseAreRefused() {
        for (count in listOf(0, 129)) assertFailsWith<XPertException.BadInput> { cells(count) }
    }
}
