// What crosses between Java and the C API: bytes, texts, and failures.
#pragma once

#include <jni.h>

#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "xpert/xpert.h"

namespace xpert_jni {

// A Java exception is pending: everything unwinds to the boundary, which then returns to Java.
struct Pending {};

// Throws Java's OutOfMemoryError through where an allocation of the VM failed.
template <typename T>
T allocated(T reference) {
  if (reference == nullptr) throw Pending{};
  return reference;
}

// UTF-8 bytes of a Java array, copied: the VM may move its own while a call takes long.
class Bytes {
 public:
  Bytes(JNIEnv *env, jbyteArray array);
  bool is_null() const { return null_; }
  const char *c_str() const { return null_ ? nullptr : data_.c_str(); }
  xpert_text text() const { return null_ ? xpert_text{nullptr, 0} : xpert_text{data_.data(), data_.size()}; }

 private:
  std::string data_;
  bool null_;
};

// An array of texts; a null element is a text with NULL data.
class Texts {
 public:
  Texts(JNIEnv *env, jobjectArray array);
  // NULL where Java gave null.
  const xpert_text *data() const { return null_ ? nullptr : texts_.data(); }
  size_t size() const { return texts_.size(); }

 private:
  std::vector<Bytes> bytes_;
  std::vector<xpert_text> texts_;
  bool null_;
};

jbyteArray to_java(JNIEnv *env, std::string_view bytes);

// Throws dev.xpert.engine.EngineFailure for a status other than XPERT_OK, or leaves what a callback threw.
void check(JNIEnv *env, xpert_status status);

// Checks a call that returned JSON, and hands it to Java.
template <typename Call>
jbyteArray json(JNIEnv *env, Call call) {
  char *text = nullptr;
  check(env, call(&text));
  struct Free {
    char *text;
    ~Free() { xpert_free(text); }
  } free{text};
  return to_java(env, text == nullptr ? std::string_view() : std::string_view(text));
}

// No C++ exception passes to the VM.
template <typename Result, typename Call>
Result guarded(JNIEnv *env, Call call) {
  try {
    return call();
  } catch (const Pending &) {
  } catch (const std::bad_alloc &) {
    if (jclass type = env->FindClass("java/lang/OutOfMemoryError")) env->ThrowNew(type, "no memory for the texts of a call");
  }
  return Result();
}

}  // namespace xpert_jni
