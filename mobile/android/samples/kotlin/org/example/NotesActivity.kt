package org.example

import android.app.Activity
import android.os.Bundle
import dev.xpert.GenerateOptions
import dev.xpert.PersonalText
import dev.xpert.PersonalizeOptions
import dev.xpert.Progress
import dev.xpert.ServerConfig
import dev.xpert.TextSource
import dev.xpert.XPert
import dev.xpert.XPertConfig
import dev.xpert.XPertException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import java.io.File

/** A notes app that answers in its user's style. */
class NotesActivity : Activity() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val notes = File(filesDir, "notes").listFiles().orEmpty().map { it.readText() }
        scope.launch {
            try {
                personalize(notes)
            } catch (error: XPertException) {
                show(error.message.orEmpty())
            }
        }
    }

    private suspend fun personalize(notes: List<String>) {
        // README: begin
        val server = ServerConfig("https://xpert.example.org", base = "starter", token = { readToken() })
        XPert.open(this, XPertConfig(File(filesDir, "starter.xpert"), server)).use { xpert ->
            val selection = xpert.select(notes.map(::PersonalText))
            show(selection.words.joinToString { "${it.word} ${it.coefficient}" })
            val start = selection.choice?.let { xpert.download(it) }
            xpert.personalize(listOf(TextSource.of(notes, "notes")), PersonalizeOptions(start = start)).collect { progress ->
                if (progress is Progress.Done) xpert.generate("Invite Ann.", GenerateOptions(progress.result.adapter)).collect(::show)
            }
        }
        // README: end
    }

    private fun readToken() = File(filesDir, "token").readText()

    private fun show(text: String) = runOnUiThread { title = text }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }
}
