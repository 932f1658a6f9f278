package dev.xpert

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.security.MessageDigest

/** Writes a file whole or not at all, also where the power fails. */
internal fun writeWhole(file: File, data: ByteArray) {
    val part = File(file.parentFile, ".${file.name}.part")
    try {
        file.parentFile?.let(::makeFolder)
        FileOutputStream(part).use {
            it.write(data)
            it.fd.sync()
        }
        if (!part.renameTo(file)) throw IOException("it cannot be renamed into place")
    } catch (error: IOException) {
        part.delete()
        throw XPertException.writing(file, error)
    }
}

internal fun readWhole(file: File): ByteArray = try {
    file.readBytes()
} catch (error: IOException) {
    throw if (file.exists()) {
        XPertException.Storage("Cannot read '${file.name}': ${error.message}. Check the app's storage.", error)
    } else {
        XPertException.NotFound("There is no '${file.path}'. Give the path of a file that is there.")
    }
}

internal fun makeFolder(folder: File) {
    if (!folder.isDirectory && !folder.mkdirs() && !folder.isDirectory) {
        throw XPertException.writing(folder, IOException("the folder cannot be made"))
    }
}

internal fun sha256(file: File): String {
    val digest = MessageDigest.getInstance("SHA-256")
    file.inputStream().use { stream ->
        val buffer = ByteArray(1 shl 16)
        while (true) {
            val n = stream.read(buffer)
            if (n < 0) break
            digest.update(buffer, 0, n)
        }
    }
    return digest.digest().joinToString("") { "%02x".format(it) }
}
