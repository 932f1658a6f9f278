package dev.xpert

import android.content.Context
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs
import kotlin.test.assertNotEquals
import kotlin.test.assertTrue

@RunWith(RobolectricTestRunner::class)
class NativeGenerateTest {
    @get:Rule val folder = TemporaryFolder()
    private val context: Context = RuntimeEnvironment.getApplication()
    private val long = GenerateOptions(maxNewTokens = 200)

    private suspend fun open() = XPert.open(context, XPertConfig(Prepared.bundle, folder = folder.root))

    @Test fun answersComeInPieces() = runBlocking {
        open().use { xpert ->
            val pieces = xpert.generate(PROMPT, GenerateOptions(maxNewTokens = 24)).toList()
            assertTrue(pieces.size > 3)
            assertEquals(pieces, xpert.generate(PROMPT, GenerateOptions(maxNewTokens = 24)).toList(), "the likeliest token each time")
            val poetic = xpert.generate(PROMPT, GenerateOptions(Prepared.adapter("poetic"), maxNewTokens = 24)).toList()
            assertNotEquals(pieces.joinToString(""), poetic.joinToString(""))
        }
    }

    @Test fun whoHasEnoughStops() = runBlocking {
        open().use { xpert ->
            assertEquals(3, xpert.generate(PROMPT, long).take(3).toList().size)
            // The engine is free again at once.
            assertTrue(withTimeout(20_000) { xpert.generate(PROMPT, GenerateOptions(maxNewTokens = 2)).toList() }.isNotEmpty())
        }
    }

    @Test fun closeEndsWhatRuns() = runBlocking<Unit> {
        val xpert = open()
        val answer = CoroutineScope(Dispatchers.Default).async { runCatching { xpert.generate(PROMPT, long).toList() } }
        delay(100)
        xpert.close()
        xpert.close()
        val error = withTimeout(20_000) { answer.await() }.exceptionOrNull()
        assertTrue(error is XPertException.Cancelled || error is XPertException.Closed, "$error")
        assertFailsWith<XPertException.Closed> { xpert.generate(PROMPT).first() }
    }

    @Test fun manyCallersAreServedOneAfterAnother() = runBlocking {
        open().use { xpert ->
            val alone = xpert.generate(PROMPT, GenerateOptions(maxNewTokens = 8)).toList().joinToString("")
            val scope = CoroutineScope(Dispatchers.Default)
            val answers = List(6) { scope.async { xpert.generate(PROMPT, GenerateOptions(maxNewTokens = 8)).toList().joinToString("") } }
            val cancelled = List(6) { scope.async { xpert.generate(PROMPT, long).toList() } }
            cancelled.forEach { it.cancel() }
            answers.forEach { assertEquals(alone, it.await()) }
        }
    }

    @Test fun javaHearsPiecesAndTheEnd() = runBlocking {
        val xpert = XPertFutures.open(context, XPertConfig(Prepared.bundle, folder = folder.root)).get()
        val heard = ArrayList<String>()
        val ended = java.util.concurrent.CompletableFuture<XPertException?>()
        xpert.generate(
            PROMPT,
            GenerateOptions(maxNewTokens = 8),
            object : Listener<String> {
                override fun onNext(item: String) {
                    heard += item
                }

                override fun onEnd(error: XPertException?) {
                    ended.complete(error)
                }
            },
        )
        assertEquals(null, ended.get())
        assertTrue(heard.isNotEmpty())
        val nearest = xpert.select(Prepared.texts(10).map(::PersonalText), Prepared.catalogue).get()
        assertEquals(10, nearest.nTexts)
        val failure = assertFailsWith<java.util.concurrent.ExecutionException> { xpert.download("poetic").get() }
        assertIs<XPertException.BadInput>(failure.cause)
        xpert.close()
    }

    private companion object {
        const val PROMPT = "Why do leaves change color in the fall?"
    }
}
