package dev.xpert

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.net.InetAddress
import java.net.ServerSocket
import java.net.Socket
import java.util.concurrent.CopyOnWriteArrayList
import kotlin.concurrent.thread

/** The network between the phone and its server: passes every byte on, and keeps what the phone sent. */
internal class RecordingProxy(private val port: Int) : AutoCloseable {
    private val listening = ServerSocket(0, 50, InetAddress.getLoopbackAddress())
    private val connections = CopyOnWriteArrayList<ByteArrayOutputStream>()
    val url get() = "http://127.0.0.1:${listening.localPort}"

    /** Connection by connection, in their order. */
    val sent: List<ByteArray> get() = connections.map { synchronized(it) { it.toByteArray() } }

    init {
        thread(isDaemon = true) {
            try {
                while (true) serve(listening.accept())
            } catch (_: IOException) {
                // It was closed.
            }
        }
    }

    private fun serve(phone: Socket) {
        val kept = ByteArrayOutputStream().also { connections += it }
        val server = Socket(InetAddress.getLoopbackAddress(), port)
        thread(isDaemon = true) { pass(phone.getInputStream(), server) { bytes, n -> synchronized(kept) { kept.write(bytes, 0, n) } } }
        thread(isDaemon = true) { pass(server.getInputStream(), phone) { _, _ -> } }
    }

    private fun pass(from: InputStream, to: Socket, seen: (ByteArray, Int) -> Unit) {
        val buffer = ByteArray(1 shl 14)
        try {
            val out: OutputStream = to.getOutputStream()
            while (true) {
                val n = from.read(buffer)
                if (n < 0) break
                seen(buffer, n)
                out.write(buffer, 0, n)
                out.flush()
            }
        } catch (_: IOException) {
            // One of both has hung up.
        }
        to.close()
    }

    override fun close() = listening.close()
}
