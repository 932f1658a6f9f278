package dev.xpert

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.security.GeneralSecurityException
import javax.crypto.AEADBadTagException
import javax.crypto.Cipher
import javax.crypto.spec.GCMParameterSpec

/**
 * A file of texts that only this app on this phone can read: "XPTX", a version, a nonce of 12 bytes, then AES-GCM's ciphertext and tag.
 *
 * Bound to the name of its run, so that the texts of one run are not taken for another's.
 */
internal class SealedTexts(private val file: File, private val run: String, private val keys: TextKeys) {
    fun write(pieces: List<Piece>) {
        val plain = JSONArray(
            pieces.map { JSONObject().put("text", it.pair.text).put("prompt", it.pair.prompt ?: JSONObject.NULL).put("of", it.text) },
        ).toString()
        // The cipher draws the nonce: Android's key store allows no other one.
        val cipher = Cipher.getInstance(CIPHER).apply { init(Cipher.ENCRYPT_MODE, keys.key()) }
        cipher.updateAAD(bound())
        val sealed = cipher.doFinal(plain.toByteArray(Charsets.UTF_8))
        check(cipher.iv.size == NONCE) { "a nonce of ${cipher.iv.size} bytes" }
        writeWhole(file, MAGIC + cipher.iv + sealed)
    }

    fun read(): List<Piece> {
        val all = readWhole(file)
        if (all.size < MAGIC.size + NONCE + TAG || !all.copyOf(MAGIC.size).contentEquals(MAGIC)) throw damaged("is no file of sealed texts")
        val plain = try {
            val cipher = Cipher.getInstance(CIPHER)
            cipher.init(Cipher.DECRYPT_MODE, keys.key(), GCMParameterSpec(8 * TAG, all, MAGIC.size, NONCE))
            cipher.updateAAD(bound())
            cipher.doFinal(all, MAGIC.size + NONCE, all.size - MAGIC.size - NONCE)
        } catch (_: AEADBadTagException) {
            throw damaged("was changed, or sealed by another key or for another run")
        } catch (error: GeneralSecurityException) {
            throw XPertException.Storage("The sealed texts cannot be opened: ${error.message}. Hand the texts over again.", error)
        }
        return try {
            JSONArray(plain.toString(Charsets.UTF_8)).map { Piece(PersonalText(it.getString("text"), it.text("prompt")), it.getInt("of")) }
        } catch (_: JSONException) {
            throw damaged("holds no list of texts")
        }
    }

    private fun bound() = MAGIC + run.toByteArray(Charsets.UTF_8)

    private fun damaged(what: String) = XPertException.BadFile("'${file.name}' $what. Remove it and hand the texts over again.")

    private companion object {
        const val CIPHER = "AES/GCM/NoPadding"
        const val NONCE = 12
        const val TAG = 16
        val MAGIC = "XPTX".toByteArray() + 1
    }
}
