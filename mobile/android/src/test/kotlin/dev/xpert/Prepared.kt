package dev.xpert

import org.json.JSONArray
import java.io.File

/** What prepare.py made: a bundle and a catalogue of the starter models, their adapters, and Python's answers to real texts. */
internal object Prepared {
    private val folder = File(requireNotNull(System.getProperty("xpert.prepared")) { "run the tests by Maven" })

    /** A test without what it needs fails: a skipped native test would look like a passed one. */
    private fun there(name: String): File = File(folder, name).also {
        check(it.exists()) { "There is no '$it'. Make it first: ./taskw mobile:android, or python mobile/android/prepare.py." }
    }

    val bundle get() = there("starter.xpert")
    val catalogue get() = there("starter.xcat.safetensors")

    /** A catalogue of some hundred pLLMs, cut: "index", "digest" of the index, and the cells by their names. */
    val cells get() = there("cells")

    /** The catalogue with one pLLM less, cut. */
    val otherCells get() = there("other-cells")

    val publicKey get() = there("key.pub").readText()

    /** The adapter of a starter pLLM. */
    fun adapter(name: String) = there("adapters/$name")

    /** [{"texts": […], "choice", "abstain", "confidence", "margin", "similarity", "words": {…}}], as xpert.core answers. */
    fun golden(): JSONArray = JSONArray(there("golden.json").readText())

    /** As [golden], the choices from the texts' cells of [cells], with "cell", the name of each. */
    fun goldenCells(): JSONArray = JSONArray(there("cells.json").readText())

    /** Texts of example user u04. */
    fun texts(n: Int): List<String> = JSONArray(there("texts.json").readText()).let { all -> List(n) { all.getString(it) } }
}
