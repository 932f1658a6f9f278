package dev.xpert

import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import javax.crypto.KeyGenerator
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse

class SealedTextsTest {
    @get:Rule val folder = TemporaryFolder()
    private val texts = listOf(Piece(PersonalText("Grüße 🙂 שלום", "Wer?"), 1), Piece(PersonalText("second secret"), 2))

    private fun keys(): TextKeys = KeyGenerator.getInstance("AES").apply { init(256) }.generateKey().let { key -> TextKeys { key } }

    @Test fun opensWithItsKeyOnly() {
        val file = File(folder.root, "texts.sealed")
        val keys = keys()
        SealedTexts(file, "run", keys).write(texts)
        assertEquals(texts, SealedTexts(file, "run", keys).read())
        assertFailsWith<XPertException.BadFile> { SealedTexts(file, "run", keys()).read() }
        assertFailsWith<XPertException.BadFile> { SealedTexts(file, "other", keys).read() }
        assertFalse("secret" in file.readText(Charsets.ISO_8859_1))
        assertEquals(listOf("texts.sealed"), folder.root.list()!!.toList())
    }

    @Test fun everyChangedByteAndEveryCutIsSeen() {
        val file = File(folder.root, "texts.sealed")
        val keys = keys()
        SealedTexts(file, "run", keys).write(texts)
        val whole = file.readBytes()
        for (i in whole.indices) {
            file.writeBytes(whole.clone().also { it[i] = (it[i].toInt() xor 4).toByte() })
            assertFailsWith<XPertException.BadFile> { SealedTexts(file, "run", keys).read() }
            file.writeBytes(whole.copyOf(i))
            assertFailsWith<XPertException.BadFile> { SealedTexts(file, "run", keys).read() }
        }
    }

    @Test fun theSameTextsAreSealedDifferently() {
        val keys = keys()
        val (one, two) = listOf("one", "two").map { name ->
            File(folder.root, name).also { SealedTexts(it, "run", keys).write(texts) }.readBytes()
        }
        assertFalse(one.contentEquals(two))
        assertEquals(one.size, two.size)
        assertContentEquals("XPTX\u0001".toByteArray(), one.copyOf(5))
    }
}
