#include "formats/bundle.h"
#include "parts.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace xpert {

namespace {

Json ids(const Json &arguments) {
  Tokenizer tokenizer(arguments.at("path"), arguments.value("max_length", size_t{0}));
  Json rows = Json::array();
  for (const Json &text : arguments.at("texts")) rows.push_back(tokenizer.ids(text.get<std::string>(), arguments.at("add_special")));
  return rows;
}

Json text(const Json &arguments) {
  Tokenizer tokenizer(arguments.at("path").get<std::string>());
  Json texts = Json::array();
  for (const Json &row : arguments.at("rows")) texts.push_back(tokenizer.text(row.get<std::vector<int64_t>>()));
  return texts;
}

Json chat(const Json &arguments) {
  Chat made(arguments.at("folder"), arguments.at("base"));
  Json prompts = Json::array(), answers = Json::array();
  for (const Json &item : arguments.at("texts")) {
    prompts.push_back(made.prompt_ids(item.get<std::string>()));
    answers.push_back(made.answer_ids(item.get<std::string>()));
  }
  return {{"prompts", prompts}, {"answers", answers}};
}

Json bundle(const Json &arguments) {
  Bundle found = open_bundle(arguments.at("folder"), {arguments.value("runtime", "0.1.0"), arguments.value("public_key", ""),
                                                      arguments.value("marks", "")});
  return {{"bytes", found.bytes}, {"signed", found.is_signed}};
}

}  // namespace

Parts chat_parts() {
  return {{"tokenizer.ids", ids}, {"tokenizer.text", text}, {"chat.ids", chat}, {"bundle.open", bundle}};
}

}  // namespace xpert
