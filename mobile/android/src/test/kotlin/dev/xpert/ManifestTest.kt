package dev.xpert

import android.Manifest
import android.app.Service
import android.app.job.JobService
import org.junit.Test
import org.w3c.dom.Element
import java.io.File
import javax.xml.parsers.DocumentBuilderFactory
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** Robolectric reads a manifest from an APK only, which takes aapt2: hold the file itself against the classes and the API's names. */
class ManifestTest {
    private val android = "http://schemas.android.com/apk/res/android"
    private val document = DocumentBuilderFactory.newInstance().apply { isNamespaceAware = true }.newDocumentBuilder()
        .parse(File("src/main/android/AndroidManifest.xml"))

    private fun all(tag: String): List<Element> = document.getElementsByTagName(tag).let { list ->
        List(list.length) { list.item(it) as Element }
    }

    @Test fun services() {
        val services = all("service").associateBy { Class.forName(it.getAttributeNS(android, "name")) }
        assertEquals(setOf<Class<*>>(PersonalizationJobService::class.java, PersonalizationService::class.java), services.keys)
        for ((type, element) in services) {
            assertTrue(Service::class.java.isAssignableFrom(type))
            assertEquals("false", element.getAttributeNS(android, "exported"))
            if (JobService::class.java.isAssignableFrom(type)) {
                assertEquals(JobService.PERMISSION_BIND, element.getAttributeNS(android, "permission"))
            }
        }
        val foreground = services.getValue(PersonalizationService::class.java)
        assertEquals("dataSync", foreground.getAttributeNS(android, "foregroundServiceType"))
    }

    @Test fun nothingIsAskedBeyondNetworkAndForegroundService() {
        val asked =
            setOf(Manifest.permission.INTERNET, Manifest.permission.FOREGROUND_SERVICE, Manifest.permission.FOREGROUND_SERVICE_DATA_SYNC)
        assertEquals(asked, all("uses-permission").map { it.getAttributeNS(android, "name") }.toSet())
    }

    @Test fun oldestAndroid() = assertEquals("26", all("uses-sdk").single().getAttributeNS(android, "minSdkVersion"))
}
