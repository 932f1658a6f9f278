// Adapters: fine-tuned and merged.
#include "api/boundary.h"
#include "api/engine.h"

using xpert::guarded;
using xpert::need;
using xpert::Turn;

extern "C" {

xpert_status xpert_merge(xpert_engine engine, const char *request, char **report) {
  return guarded([&] {
    need(request, "request");
    need(report, "report");
    Turn turn(engine);
    xpert::give(turn->base().merge(request), report);
  });
}

xpert_status xpert_personalize(xpert_engine engine, const xpert_text *prompts, const xpert_text *texts, size_t n, const char *request,
                               xpert_on_step on_step, void *user, char **result) {
  return guarded([&] {
    need(request, "request");
    need(result, "result");
    const auto asked = xpert::views(prompts, n, "prompts"), answered = xpert::views(texts, n, "texts");
    Turn turn(engine);
    std::vector<xpert::EncodedText> encoded;
    for (size_t i = 0; i < n; ++i) {
      turn->pause();
      encoded.push_back({turn->chat().prompt_ids(asked[i]), turn->chat().answer_ids(answered[i])});
    }
    auto told = [&](int64_t step, int64_t n_steps, double loss, double held_out) {
      return on_step && on_step(user, static_cast<int32_t>(step), static_cast<int32_t>(n_steps), loss, held_out) != 0;
    };
    xpert::give(turn->base().personalize(encoded, request, told, [&] { return turn->is_cancelled(); }), result);
  });
}

}  // extern "C"
