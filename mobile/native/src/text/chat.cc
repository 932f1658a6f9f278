#include "text/chat.h"

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "xpert_libraries.h"

namespace xpert {

namespace {

constexpr size_t kLargestTemplate = size_t{1} << 20;

}  // namespace

Chat::Chat(const std::string &folder, const Json &base) : tokenizer_(folder + "/" + base.at("tokenizer").get<std::string>()) {
  if (base.contains("chat_template") && base["chat_template"].is_string()) {
    template_ = read_file(folder + "/" + base["chat_template"].get<std::string>(), kLargestTemplate);
  }
  specials_ = base.at("special_tokens").dump();
  open_prompt_ = base.at("open_prompt");
  end_ = base.at("end");
  vocabulary_ = base.at("geometry").at("vocabulary");
}

std::vector<int64_t> Chat::prompt_ids(std::string_view prompt) const {
  std::string_view asked = prompt.empty() ? open_prompt_ : prompt;
  std::vector<int64_t> ids = template_ ? encode(write_out(asked), false) : encode(std::string(asked) + "\n", true);
  if (ids.empty()) bad_input("The tokenizer '" + tokenizer_.path() + "' turns a prompt into no token. Change the prompt.");
  return ids;
}

std::vector<int64_t> Chat::answer_ids(std::string_view answer) const {
  std::vector<int64_t> ids = encode(answer, false);
  ids.push_back(end_);
  return ids;
}

std::vector<int64_t> Chat::encode(std::string_view text, bool add_special) const {
  std::vector<int64_t> ids = tokenizer_.ids(text, add_special);
  int64_t largest = end_;
  for (int64_t id : ids) largest = std::max(largest, id);
  if (largest >= vocabulary_) {
    mismatch("The tokenizer '" + tokenizer_.path() + "' gives the token " + std::to_string(largest) + ", its model has " +
             std::to_string(vocabulary_) + " of them. Export the bundle again.");
  }
  return ids;
}

std::string Chat::write_out(std::string_view prompt) const {
  char *found = nullptr;
  size_t size = 0;
  if (xpert_lib_chat(template_->c_str(), prompt.data(), prompt.size(), specials_.c_str(), &found, &size) != 0) {
    bad_input("The chat template beside '" + tokenizer_.path() + "' cannot write out a prompt: " + xpert_lib_error() +
              ". Change the prompt, or check the template.");
  }
  std::string text(found, size);
  xpert_lib_free_text(found);
  return text;
}

}  // namespace xpert
