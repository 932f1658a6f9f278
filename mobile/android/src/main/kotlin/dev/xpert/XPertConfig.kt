package dev.xpert

import java.io.File

/** Where the texts of a personalization are while it has not ended. */
enum class TextStorage {
    /** In memory only: after the app's process has died, the app hands the same texts over again and the run goes on. */
    MEMORY,

    /**
     * In the app's own storage, sealed by AES-GCM with a key that never leaves Android's key store: the run goes on by itself. Removed
     * when the run ends.
     */
    SEALED,
}

/**
 * An XPerT server.
 *
 * @property url such as `https://xpert.example.org`
 * @property base the server's name of the base model
 * @property token read at each request, so that it may be renewed
 * @property attempts so often a request is tried while the server cannot be reached or is busy; twice at most where something from before
 * will do
 * @property cells so many cells of a large catalogue are asked for, the user's own and decoys; 1 tells the server which it is
 * @property mostWholeBytes up to so many bytes (64 a pLLM) a catalogue is fetched whole, which tells nothing; null: what the cells cost
 */
class ServerConfig @JvmOverloads constructor(
    val url: String,
    val base: String,
    val token: TokenSource,
    val attempts: Int = 6,
    val cells: Int = 8,
    val mostWholeBytes: Long? = null,
) {
    init {
        if (!url.startsWith("https://") && !url.startsWith("http://")) {
            throw XPertException.BadInput("The server's address '$url' is no http(s) URL. Give one such as https://xpert.example.org.")
        }
        if (attempts < 1) throw XPertException.BadInput("$attempts attempts never ask. Give 1 or more.")
        if (cells !in 1..MOST_CELLS) throw XPertException.BadInput("$cells cells cannot be asked for: give 1 to $MOST_CELLS.")
    }

    internal companion object {
        /** Places for decoys are drawn once for all: more cells than this would have some that are new every time. */
        const val MOST_CELLS = 128
    }
}

/** Gives the server's token of this moment. */
fun interface TokenSource {
    /** The token, without "Bearer". */
    fun token(): String
}

/**
 * What [XPert.open] needs.
 *
 * @property bundle folder of a bundle, `NAME.xpert` (docs/bundle.md)
 * @property server where pLLMs are fetched from; null where the app brings catalogue and adapters itself
 * @property publicKey minisign's public key of who signs bundle and adapters; unsigned ones are refused where it is given
 * @property threads CPU threads of the native core
 * @property textStorage where texts are while a personalization has not ended
 * @property folder for what was fetched and trained; the app's own folder that no backup holds where it is null
 */
class XPertConfig @JvmOverloads constructor(
    val bundle: File,
    val server: ServerConfig? = null,
    val publicKey: String? = null,
    val threads: Int = 2,
    val textStorage: TextStorage = TextStorage.MEMORY,
    val folder: File? = null,
)
