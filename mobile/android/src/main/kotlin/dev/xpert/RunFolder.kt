package dev.xpert

import org.json.JSONObject
import java.io.File

/** What a run needs to go on in a process that knows nothing of it. */
internal class RunSpec(
    val bundle: File,
    val publicKey: String?,
    val threads: Int,
    val storage: TextStorage,
    val gates: Gates,
    val request: JSONObject,
) {
    fun json(): String = JSONObject()
        .put("version", VERSION).put("bundle", bundle.path).put("public_key", publicKey ?: JSONObject.NULL).put("threads", threads)
        .put("storage", storage.name).put("request", request)
        .put("charging", gates.charging).put("minimum_battery", gates.minimumBattery)
        .put("maximum_heat", gates.maximumHeat).put("minimum_free_bytes", gates.minimumFreeBytes).toString()

    companion object {
        private const val VERSION = 1

        fun parse(json: String): RunSpec = parsed("record of the run") {
            val all = JSONObject(json)
            if (all.getInt("version") != VERSION) {
                throw XPertException.BadFile("The run has version ${all.getInt("version")}, expected $VERSION. Cancel it and start anew.")
            }
            RunSpec(
                bundle = File(all.getString("bundle")),
                publicKey = all.text("public_key"),
                threads = all.getInt("threads"),
                storage = TextStorage.valueOf(all.getString("storage")),
                gates = Gates(
                    all.getBoolean("charging"),
                    all.getInt("minimum_battery"),
                    all.getInt("maximum_heat"),
                    all.getLong("minimum_free_bytes"),
                ),
                request = all.getJSONObject("request"),
            )
        }
    }
}

/** The folder of one run: its record, its sealed texts where they are kept, its adapter and checkpoint. */
internal class RunFolder(val path: File) {
    val name: String get() = path.name
    val adapter = File(path, "adapter")
    private val record = File(path, "run.json")
    private val sealed = File(path, "texts.sealed")

    /** It was started, and has not ended. */
    val open: Boolean get() = record.exists()

    fun write(spec: RunSpec) = writeWhole(record, spec.json().toByteArray())

    fun spec(): RunSpec = RunSpec.parse(readWhole(record).toString(Charsets.UTF_8))

    fun seal(texts: List<Piece>, keys: TextKeys) = SealedTexts(sealed, name, keys).write(texts)

    fun sealedTexts(keys: TextKeys): List<Piece>? = if (sealed.exists()) SealedTexts(sealed, name, keys).read() else null

    /** Forgets the texts and the record; the adapter stays. */
    fun end() {
        sealed.delete()
        record.delete()
    }

    /** Removes everything. */
    fun remove() {
        path.deleteRecursively()
    }
}
