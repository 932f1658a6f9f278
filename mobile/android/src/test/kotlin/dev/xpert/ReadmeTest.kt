package dev.xpert

import org.junit.Test
import java.io.File
import kotlin.test.assertEquals

class ReadmeTest {
    @Test fun whatIsShownIsWhatIsCompiled() {
        val shown = File("README.md").readText().substringAfter("```kotlin\n").substringBefore("```").trim()
        val sample = File("samples/kotlin/org/example/NotesActivity.kt").readText()
        val compiled = sample.substringAfter("// README: begin\n").substringBefore("// README: end").trimIndent().trim()
        assertEquals(compiled, shown)
    }
}
