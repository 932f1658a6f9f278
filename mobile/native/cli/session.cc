#include "session.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <thread>

namespace xpert_device {

namespace {

constexpr int kInterrupted = 130;
std::atomic<xpert_engine> running{0};

std::string trimmed(const std::string &text) {
  const char *blanks = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(blanks);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

xpert_text view(const std::string &text) { return {text.data(), text.size()}; }

}  // namespace

void check(xpert_status status) {
  if (status != XPERT_OK) throw Refusal(status, xpert_last_error());
}

Json answer(const std::function<xpert_status(char **)> &call) {
  char *text = nullptr;
  check(call(&text));
  const std::string found = text;
  xpert_free(text);
  return Json::parse(found);
}

void handle_interrupts() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A thread that waits may take locks, which a handler may not.
  std::thread([signals] {
    for (int n = 0, signal = 0; sigwait(&signals, &signal) == 0; ++n) {
      if (n > 0 || running == 0) _exit(kInterrupted);
      xpert_cancel(running);
    }
  }).detach();
}

Session::Session(const std::string &bundle, const Json &options) {
  check(xpert_open(bundle.c_str(), options.dump().c_str(), &engine_));
  running = engine_;
}

Session::~Session() {
  running = 0;
  xpert_close(engine_);
}

std::string read_whole(const std::string &path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  std::ostringstream data;
  if (!file || !(data << file.rdbuf())) throw Refusal(XPERT_NOT_FOUND, "Cannot read '" + path + "', or it is empty. Check the path.");
  return data.str();
}

Texts::Texts(const std::string &path) {
  std::istringstream lines(read_whole(path));
  const bool is_json = path.size() > 6 && path.compare(path.size() - 6, 6, ".jsonl") == 0;
  size_t n = 0;
  for (std::string line; std::getline(lines, line);) {
    ++n;
    if (!trimmed(line).empty()) add("Line " + std::to_string(n) + " of '" + path + "'", line, is_json);
  }
  if (texts_.empty()) throw Refusal(XPERT_BAD_INPUT, "'" + path + "' holds no texts. Give at least one, better 10 or more.");
  number_groups();
  for (size_t i = 0; i < texts_.size(); ++i) {
    text_views_.push_back(view(texts_[i]));
    prompt_views_.push_back(has_prompt_[i] ? view(prompts_[i]) : xpert_text{nullptr, 0});
  }
}

void Texts::add(const std::string &place, const std::string &line, bool is_json) {
  Json record = is_json ? Json::parse(line, nullptr, false) : Json{{"text", line}};
  if (!record.is_object()) record = Json::object();
  const Json text = record.value("text", Json()), prompt = record.value("prompt", Json()), group = record.value("group", Json());
  if (!text.is_string() || trimmed(text).empty()) {
    throw Refusal(XPERT_BAD_INPUT, place + " has no text. Lines are {\"text\", \"prompt\"?, \"group\"?}.");
  }
  if (!prompt.is_null() && !prompt.is_string()) throw Refusal(XPERT_BAD_INPUT, place + " has a prompt that is no text. Correct it.");
  if (!group.is_null() && !group.is_string() && !group.is_number_integer()) {
    throw Refusal(XPERT_BAD_INPUT, place + " has a group that is neither a text nor a whole number. Correct it.");
  }
  texts_.push_back(trimmed(text));
  prompts_.push_back(prompt.is_string() ? trimmed(prompt) : "");
  has_prompt_.push_back(!prompts_.back().empty());
  named_.push_back(group);
}

void Texts::number_groups() {
  if (std::all_of(named_.begin(), named_.end(), [](const Json &name) { return name.is_null(); })) return;
  groups_ = Json::array();
  std::map<Json, size_t> numbers;
  for (size_t i = 0; i < named_.size(); ++i) groups_.push_back(named_[i].is_null() ? i : numbers.emplace(named_[i], i).first->second);
}

}  // namespace xpert_device
