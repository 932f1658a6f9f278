package dev.xpert

/** Calls what only [level] and newer have; its callers look at SDK_INT first. The build's check of the minimum API passes over it. */
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.FUNCTION, AnnotationTarget.CLASS)
internal annotation class NewerApi(val level: Int)
