#include "bridge.h"

namespace xpert_jni {

Bytes::Bytes(JNIEnv *env, jbyteArray array) : null_(array == nullptr) {
  if (null_) return;
  const jsize size = env->GetArrayLength(array);
  data_.resize(static_cast<size_t>(size));
  env->GetByteArrayRegion(array, 0, size, reinterpret_cast<jbyte *>(data_.data()));
  if (env->ExceptionCheck()) throw Pending{};
}

Texts::Texts(JNIEnv *env, jobjectArray array) : null_(array == nullptr) {
  if (null_) return;
  const jsize size = env->GetArrayLength(array);
  bytes_.reserve(static_cast<size_t>(size));
  for (jsize i = 0; i < size; ++i) {
    jobject element = env->GetObjectArrayElement(array, i);
    if (env->ExceptionCheck()) throw Pending{};
    bytes_.emplace_back(env, static_cast<jbyteArray>(element));
    // A native method has room for few local references.
    env->DeleteLocalRef(element);
  }
  for (const Bytes &bytes : bytes_) texts_.push_back(bytes.text());
}

jbyteArray to_java(JNIEnv *env, std::string_view bytes) {
  const auto size = static_cast<jsize>(bytes.size());
  jbyteArray array = allocated(env->NewByteArray(size));
  env->SetByteArrayRegion(array, 0, size, reinterpret_cast<const jbyte *>(bytes.data()));
  if (env->ExceptionCheck()) throw Pending{};
  return array;
}

void check(JNIEnv *env, xpert_status status) {
  // What a callback threw ended the call, and says more than its status.
  if (env->ExceptionCheck()) throw Pending{};
  if (status == XPERT_OK) return;
  const std::string message = xpert_last_error();
  jclass type = allocated(env->FindClass("dev/xpert/engine/EngineFailure"));
  jmethodID make = allocated(env->GetMethodID(type, "<init>", "(I[B)V"));
  jobject failure = allocated(env->NewObject(type, make, static_cast<jint>(status), to_java(env, message)));
  env->Throw(static_cast<jthrowable>(failure));
  throw Pending{};
}

}  // namespace xpert_jni
