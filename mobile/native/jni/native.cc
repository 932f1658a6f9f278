// The Java face of the C API: dev.xpert.engine.Native, function by function.
#include "bridge.h"

using xpert_jni::Bytes;
using xpert_jni::check;
using xpert_jni::guarded;
using xpert_jni::json;
using xpert_jni::Texts;

namespace {

// A Java callback as the C API wants it: a function and what it is called with.
struct Observer {
  JNIEnv *env;
  jobject object;
  jmethodID method;

  Observer(JNIEnv *environment, jobject observer, const char *name, const char *signature) : env(environment), object(observer) {
    method = xpert_jni::allocated(env->GetMethodID(env->GetObjectClass(observer), name, signature));
  }
};

int on_step(void *user, int32_t step, int32_t n_steps, double loss, double held_out) {
  auto *observer = static_cast<Observer *>(user);
  const jboolean go_on = observer->env->CallBooleanMethod(observer->object, observer->method, static_cast<jint>(step),
                                                          static_cast<jint>(n_steps), loss, held_out);
  return observer->env->ExceptionCheck() || go_on == JNI_FALSE;
}

int on_piece(void *user, xpert_text piece) {
  auto *observer = static_cast<Observer *>(user);
  JNIEnv *env = observer->env;
  try {
    jbyteArray bytes = xpert_jni::to_java(env, std::string_view(piece.data, piece.size));
    const jboolean go_on = env->CallBooleanMethod(observer->object, observer->method, bytes);
    // Thousands of pieces come in one call; each would keep its bytes until the end.
    if (env->ExceptionCheck()) return 1;
    env->DeleteLocalRef(bytes);
    return go_on == JNI_FALSE;
  } catch (const xpert_jni::Pending &) {
    return 1;
  }
}

xpert_engine engine_of(jlong engine) { return static_cast<xpert_engine>(engine); }

}  // namespace

#define XPERT_NATIVE(type, name) extern "C" JNIEXPORT type JNICALL Java_dev_xpert_engine_Native_##name

XPERT_NATIVE(jbyteArray, version)(JNIEnv *env, jclass) {
  return guarded<jbyteArray>(env, [&] { return xpert_jni::to_java(env, xpert_version()); });
}

XPERT_NATIVE(jbyteArray, verify)(JNIEnv *env, jclass, jbyteArray bundle, jbyteArray public_key) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes path(env, bundle), key(env, public_key);
    return json(env, [&](char **report) { return xpert_verify(path.c_str(), key.c_str(), report); });
  });
}

XPERT_NATIVE(void, verifyFile)(JNIEnv *env, jclass, jbyteArray file, jbyteArray signature, jbyteArray public_key) {
  guarded<int>(env, [&] {
    const Bytes path(env, file), signed_by(env, signature), key(env, public_key);
    check(env, xpert_verify_file(path.c_str(), signed_by.c_str(), key.c_str()));
    return 0;
  });
}

XPERT_NATIVE(jlong, open)(JNIEnv *env, jclass, jbyteArray bundle, jbyteArray options) {
  return guarded<jlong>(env, [&] {
    const Bytes path(env, bundle), json_options(env, options);
    xpert_engine engine = 0;
    check(env, xpert_open(path.c_str(), json_options.c_str(), &engine));
    return static_cast<jlong>(engine);
  });
}

XPERT_NATIVE(jbyteArray, describe)(JNIEnv *env, jclass, jlong engine) {
  return guarded<jbyteArray>(env, [&] { return json(env, [&](char **out) { return xpert_describe(engine_of(engine), out); }); });
}

XPERT_NATIVE(void, cancel)(JNIEnv *env, jclass, jlong engine) {
  guarded<int>(env, [&] {
    const xpert_status status = xpert_cancel(engine_of(engine));
    // Nothing is left to cancel, which is what was wanted.
    if (status != XPERT_CLOSED) check(env, status);
    return 0;
  });
}

XPERT_NATIVE(void, close)(JNIEnv *env, jclass, jlong engine) {
  guarded<int>(env, [&] {
    check(env, xpert_close(engine_of(engine)));
    return 0;
  });
}

XPERT_NATIVE(jbyteArray, tokenize)(JNIEnv *env, jclass, jlong engine, jbyteArray text, jboolean add_special) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes bytes(env, text);
    return json(env, [&](char **ids) { return xpert_tokenize(engine_of(engine), bytes.text(), add_special == JNI_TRUE, ids); });
  });
}

XPERT_NATIVE(jdoubleArray, coefficients)(JNIEnv *env, jclass, jlong engine, jobjectArray texts, jint axes) {
  return guarded<jdoubleArray>(env, [&] {
    const Texts all(env, texts);
    std::vector<double> found(all.size() * static_cast<size_t>(axes));
    check(env, xpert_coefficients(engine_of(engine), all.data(), all.size(), found.data()));
    jdoubleArray array = xpert_jni::allocated(env->NewDoubleArray(static_cast<jsize>(found.size())));
    env->SetDoubleArrayRegion(array, 0, static_cast<jsize>(found.size()), found.data());
    return array;
  });
}

XPERT_NATIVE(jbyteArray, select)
(JNIEnv *env, jclass, jlong engine, jbyteArray catalogue, jobjectArray texts, jobjectArray base_answers, jbyteArray options) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes path(env, catalogue), json_options(env, options);
    const Texts all(env, texts), answers(env, base_answers);
    return json(env, [&](char **selection) {
      return xpert_select(engine_of(engine), path.c_str(), all.data(), answers.data(), all.size(), json_options.c_str(), selection);
    });
  });
}

XPERT_NATIVE(jbyteArray, describeCells)(JNIEnv *env, jclass, jbyteArray index, jbyteArray request) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes path(env, index), json_request(env, request);
    return json(env, [&](char **description) { return xpert_describe_cells(path.c_str(), json_request.c_str(), description); });
  });
}

XPERT_NATIVE(jbyteArray, nearestCells)(JNIEnv *env, jclass, jlong engine, jbyteArray index, jobjectArray texts) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes path(env, index);
    const Texts all(env, texts);
    return json(env, [&](char **cells) {
      return xpert_nearest_cells(engine_of(engine), path.c_str(), all.data(), all.size(), cells);
    });
  });
}

XPERT_NATIVE(jbyteArray, merge)(JNIEnv *env, jclass, jlong engine, jbyteArray request) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes json_request(env, request);
    return json(env, [&](char **report) { return xpert_merge(engine_of(engine), json_request.c_str(), report); });
  });
}

XPERT_NATIVE(jbyteArray, personalize)
(JNIEnv *env, jclass, jlong engine, jobjectArray prompts, jobjectArray texts, jbyteArray request, jobject observer) {
  return guarded<jbyteArray>(env, [&] {
    const Texts asked(env, prompts), answered(env, texts);
    const Bytes json_request(env, request);
    Observer told(env, observer, "onStep", "(IIDD)Z");
    return json(env, [&](char **result) {
      return xpert_personalize(engine_of(engine), asked.data(), answered.data(), answered.size(), json_request.c_str(), on_step,
                               &told, result);
    });
  });
}

XPERT_NATIVE(jbyteArray, generate)(JNIEnv *env, jclass, jlong engine, jbyteArray prompt, jbyteArray request, jobject observer) {
  return guarded<jbyteArray>(env, [&] {
    const Bytes text(env, prompt), json_request(env, request);
    Observer told(env, observer, "onPiece", "([B)Z");
    return json(env, [&](char **result) {
      return xpert_generate(engine_of(engine), text.text(), json_request.c_str(), on_piece, &told, result);
    });
  });
}
