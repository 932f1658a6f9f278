// The C API for the command: errors as exceptions, engines that close, Ctrl-C that cancels.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"
#include "xpert/xpert.h"

namespace xpert_device {

/** Throws a Refusal with the library's message where a call failed. */
void check(xpert_status status);

/** What a call gave, as JSON. */
Json answer(const std::function<xpert_status(char **)> &call);

/** From here on Ctrl-C cancels what runs, and a second one ends the process. Before any thread is started. */
void handle_interrupts();

/** An opened bundle. */
class Session {
 public:
  Session(const std::string &bundle, const Json &options);
  ~Session();
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;
  xpert_engine engine() const { return engine_; }

 private:
  xpert_engine engine_ = 0;
};

/**
 * Texts of a file: .jsonl with lines {"text", "prompt"?, "group"?}, or a text a line.
 *
 * A group is a text or a whole number: what has the same one, such as the pieces of a longer text, is held out together.
 */
class Texts {
 public:
  explicit Texts(const std::string &path);

  size_t size() const { return texts_.size(); }
  const xpert_text *texts() const { return text_views_.data(); }
  const xpert_text *prompts() const { return prompt_views_.data(); }
  /** As xpert_personalize takes them; null where no text names one, and then each is its own. */
  const Json &groups() const { return groups_; }

 private:
  void add(const std::string &place, const std::string &line, bool is_json);

  void number_groups();

  std::vector<std::string> texts_, prompts_;
  std::vector<Json> named_;  // the group of each text as its line says it; null where it does not
  Json groups_;
  std::vector<bool> has_prompt_;
  std::vector<xpert_text> text_views_, prompt_views_;
};

/** All of a file, or of the standard input where path is "-". */
std::string read_whole(const std::string &path);

}  // namespace xpert_device
