package dev.xpert

import dev.xpert.engine.Engine
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.io.IOException
import java.net.HttpURLConnection.HTTP_NOT_MODIFIED
import java.security.SecureRandom
import java.util.Random

/** What a selection looks at: a whole catalogue, or a cell with the index that it belongs to. */
internal class Candidates(val file: File, val index: File? = null)

/** An index of cells on this phone; [decoys] are the cells in which the places of the decoys lie. */
internal class CellIndex(val file: File, val digest: String, val nPllms: Long, val nCells: Int, val decoys: List<Int>) {
    /** What a server calls a cell. */
    fun cellName(number: Int) = "${digest.take(16)}-$number"
}

/**
 * The part of a large catalogue that a user needs, without the server being told which it was (docs/adr/0009-cells.md).
 *
 * The cell that is wanted is asked for among decoys, all of them whole and in random order. The places of the decoys are drawn once, with
 * the first index, and stay: fresh ones would be found out by comparing two days' requests.
 */
internal class Cells(
    private val config: ServerConfig,
    folder: File,
    private val http: Http,
    // Decoys that could be guessed would be none.
    private val chance: Random = SecureRandom(),
) {
    private val one = Mutex()
    private val folder = File(folder, "cells/${config.base}")
    private val record = File(this.folder, "cells.json")
    private val path = "/v1/catalogues/${config.base}/cells"

    /**
     * Gives [look] the cell whose number [nearest] finds in an index, or null where the whole catalogue costs no more than the cells.
     *
     * Nobody replaces the files while it looks: a newer index takes those of the older one away.
     */
    suspend fun <T> withCandidates(nearest: suspend (File) -> Int, look: suspend (Candidates?) -> T): T =
        one.withLock { look(candidates(nearest)) }

    private suspend fun candidates(nearest: suspend (File) -> Int): Candidates? {
        val index = index()
        if (index.nPllms * BYTES_A_PLLM <= (config.mostWholeBytes ?: (config.cells * CELL_BYTES))) return null
        return try {
            cell(index, nearest(index.file))
        } catch (_: XPertException.NotFound) {
            // The catalogue has changed since its index came.
            index().let { cell(it, nearest(it.file)) }
        }
    }

    /** The current index, or the one from before where the server is out of reach. */
    private suspend fun index(): CellIndex {
        val held = withContext(Dispatchers.IO) { held() }
        val body = try {
            fetch(path, MOST_INDEX, held?.let { mapOf("If-None-Match" to "\"${it.digest}\"") }.orEmpty(), hasOlder = held != null)
        } catch (error: XPertException.Unavailable) {
            return held ?: throw error
        }
        return if (body.isEmpty() && held != null) held else withContext(Dispatchers.IO) { keep(body) }
    }

    private fun held(): CellIndex? = try {
        val facts = facts()
        facts?.let { describe(File(folder, it.getString("file")), it.getJSONArray("decoys")) }
    } catch (_: XPertException) {
        null // Damaged, or not there.
    } catch (_: JSONException) {
        null
    }

    private fun facts(): JSONObject? = if (record.exists()) JSONObject(readWhole(record).toString(Charsets.UTF_8)) else null

    private fun keep(body: ByteArray): CellIndex {
        val scratch = File(folder, ".cells.new")
        writeWhole(scratch, body)
        try {
            val decoys = drawn(scratch, known(scratch))
            val found = describe(scratch, decoys)
            val file = File(folder, "${found.digest.take(16)}.cells$SUFFIX")
            if (!scratch.renameTo(file)) throw XPertException.writing(file, IOException("it cannot be renamed into place"))
            writeWhole(record, JSONObject().put("file", file.name).put("decoys", decoys).toString().toByteArray())
            // What belongs to another index is of no use any more.
            folder.listFiles { old -> old.name.endsWith(SUFFIX) && !old.name.startsWith(found.digest.take(16)) }?.forEach(File::delete)
            return CellIndex(file, found.digest, found.nPllms, found.nCells, found.decoys)
        } finally {
            scratch.delete()
        }
    }

    /** The places of before that fit the index. */
    private fun known(index: File): JSONArray = try {
        facts()?.getJSONArray("decoys")?.also { describe(index, it) } ?: JSONArray()
    } catch (_: XPertException) {
        JSONArray() // They belong to another style space.
    } catch (_: JSONException) {
        JSONArray()
    }

    /**
     * The places for decoys, those that are missing drawn: middles of cells, so that as many lie where there are many pLLMs and users.
     *
     * An index of few cells, as small catalogues have, gives few places. More are drawn when there are more cells; else the decoys beside
     * these few would be new every time, and found out by that.
     */
    private fun drawn(index: File, before: JSONArray): JSONArray {
        val found = describe(index, before)
        val missing = minOf(ServerConfig.MOST_CELLS, found.nCells) - before.length()
        if (missing <= 0) return before
        val numbers = ((0 until found.nCells) - found.decoys.toSet()).shuffled(chance).take(missing)
        val more = asked(index, JSONObject().put("centres", JSONArray(numbers))).getJSONArray("centres")
        return JSONArray(List(before.length(), before::get) + List(more.length(), more::get))
    }

    private fun describe(index: File, places: JSONArray): CellIndex = parsed("description of the cells") {
        val all = asked(index, JSONObject().put("places", places))
        val decoys = all.getJSONArray("nearest").ints()
        CellIndex(index, all.getString("digest"), all.getLong("n_pllms"), all.getInt("n_cells"), decoys)
    }

    private fun asked(index: File, request: JSONObject) = JSONObject(typed { Engine.describeCells(index.path, request.toString()) })

    private suspend fun cell(index: CellIndex, number: Int): Candidates {
        val file = File(folder, index.cellName(number) + SUFFIX)
        if (withContext(Dispatchers.IO) { isCell(file, index, number) }) return Candidates(file, index.file)
        var body = ByteArray(0)
        // All of them to the end, whichever is wanted and wherever in the order it comes.
        for (each in numbers(index, number)) fetch("$path/${index.cellName(each)}", MOST_CELL).let { if (each == number) body = it }
        withContext(Dispatchers.IO) {
            val scratch = File(folder, ".${file.name}.new")
            writeWhole(scratch, body)
            try {
                check(scratch, index, number)
                if (!scratch.renameTo(file)) throw XPertException.writing(file, IOException("it cannot be renamed into place"))
            } finally {
                scratch.delete()
            }
        }
        return Candidates(file, index.file)
    }

    /** The cells to ask for in the order of asking: one's own and decoys, the same ones every time. */
    fun numbers(index: CellIndex, own: Int): List<Int> {
        val others = index.decoys.distinct() - own
        // Two places may have come to lie in one cell.
        val missing = (minOf(config.cells, index.nCells) - 1 - others.size).coerceAtLeast(0)
        val more = ((0 until index.nCells) - others.toSet() - own).shuffled(chance).take(missing)
        return (listOf(own) + (others + more).take(config.cells - 1)).shuffled(chance)
    }

    private fun isCell(file: File, index: CellIndex, number: Int): Boolean = try {
        file.exists() && check(file, index, number)
    } catch (_: XPertException) {
        false // Damaged: it is fetched again, among the others.
    }

    private fun check(file: File, index: CellIndex, number: Int): Boolean {
        asked(index.file, JSONObject().put("cell", JSONObject().put("file", file.path).put("number", number)))
        return true
    }

    /** A body of at most [most] bytes; empty where the server says that nothing has changed. */
    private suspend fun fetch(path: String, most: Int, headers: Map<String, String> = emptyMap(), hasOlder: Boolean = false): ByteArray =
        http.get(path, { headers }, hasOlder) { answer, _ ->
            if (answer.status == HTTP_NOT_MODIFIED) return@get ByteArray(0)
            val body = answer.connection.inputStream.use { it.readNBytesOf(most + 1) }
            if (body.size > most) throw XPertException.BadFile("'$path' has more than $most bytes. Tell the server's owner.")
            body
        }

    private companion object {
        const val SUFFIX = ".xcat.safetensors"
        const val BYTES_A_PLLM = 64L
        const val CELL_BYTES = 65_536L
        const val MOST_CELL = 1 shl 20
        const val MOST_INDEX = 64 shl 20
    }
}
