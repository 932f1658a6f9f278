// Answers.
#include "api/boundary.h"
#include "api/engine.h"

extern "C" xpert_status xpert_generate(xpert_engine engine, xpert_text prompt, const char *request, xpert_on_piece on_piece, void *user,
                                       char **result) {
  return xpert::guarded([&] {
    xpert::need(result, "result");
    const std::string_view asked = xpert::view(prompt);
    xpert::Turn turn(engine);
    const xpert::Chat &chat = turn->chat();
    auto decode = [&](const std::vector<int64_t> &ids) { return chat.tokenizer().text(ids); };
    auto told = [&](std::string_view piece) { return on_piece && on_piece(user, {piece.data(), piece.size()}) != 0; };
    xpert::give(turn->base().generate(chat.prompt_ids(asked), request, decode, told, [&] { return turn->is_cancelled(); }), result);
  });
}
