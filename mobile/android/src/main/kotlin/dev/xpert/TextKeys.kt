package dev.xpert

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import java.security.GeneralSecurityException
import java.security.KeyStore
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey

/** Gives the AES key that texts are sealed with. */
fun interface TextKeys {
    /** The key, the same one each time. */
    fun key(): SecretKey
}

/** A key of 256 bits in Android's key store: the app can use it, and nobody can read it. */
internal object AndroidKeys : TextKeys {
    private const val STORE = "AndroidKeyStore"
    private const val ALIAS = "dev.xpert.texts"

    @Synchronized
    override fun key(): SecretKey = try {
        val store = KeyStore.getInstance(STORE).apply { load(null) }
        store.getKey(ALIAS, null) as SecretKey? ?: generate()
    } catch (error: GeneralSecurityException) {
        throw XPertException.Storage(
            "Android's key store gives no key to seal texts with (${error.message}). Use TextStorage.MEMORY on this phone.",
            error,
        )
    }

    private fun generate(): SecretKey {
        val spec = KeyGenParameterSpec.Builder(ALIAS, KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .setKeySize(256).build()
        return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, STORE).apply { init(spec) }.generateKey()
    }
}
