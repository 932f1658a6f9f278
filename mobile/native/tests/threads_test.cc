// Threads that open, ask, cancel and close the engines of one bundle at once: what they see is an answer, CANCELLED or CLOSED.
//
// threads_test BUNDLE ROUNDS FOLDER. Under the thread sanitizer a race ends it; under the address sanitizer a use after close.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "xpert/xpert.h"

namespace {

std::atomic<int> answers{0}, cancelled{0}, closed{0};

void expect(bool condition, const char *what) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", what, xpert_last_error());
  std::abort();
}

/** Counts how a call ended, and refuses every other end. */
void count(xpert_status status, const char *what) {
  expect(status == XPERT_OK || status == XPERT_CANCELLED || status == XPERT_CLOSED, what);
  (status == XPERT_OK ? answers : status == XPERT_CANCELLED ? cancelled : closed)++;
}

void ask(xpert_engine engine) {
  const std::string text = "Wir sahen 東京 🦉 at noon.";
  char *found = nullptr;
  const xpert_status status = xpert_tokenize(engine, {text.data(), text.size()}, 1, &found);
  count(status, "tokenize");
  expect((found != nullptr) == (status == XPERT_OK), "an answer with its status");
  xpert_free(found);
  found = nullptr;
  count(xpert_describe(engine, &found), "describe");
  xpert_free(found);
}

void train(xpert_engine engine, const std::string &out) {
  const std::string text = "Yes, sure, at noon.";
  const std::vector<xpert_text> texts(4, {text.data(), text.size()}), prompts(4, {nullptr, 0});
  const std::string request =
      R"({"out": ")" + out + R"(", "max_steps": 100000, "batch_size": 2, "held_out": 0, "rank": 4, "learning_rate": 1e-6, "target_loss": null})";
  char *found = nullptr;
  count(xpert_personalize(engine, prompts.data(), texts.data(), texts.size(), request.c_str(), nullptr, nullptr, &found), "personalize");
  xpert_free(found);
}

void round_of(const char *bundle, const std::string &out) {
  xpert_engine engine = 0;
  expect(xpert_open(bundle, nullptr, &engine) == XPERT_OK, "open");
  std::vector<std::thread> threads;
  threads.emplace_back(train, engine, out);
  for (int i = 0; i < 3; ++i) threads.emplace_back(ask, engine);
  threads.emplace_back([engine] {
    for (int i = 0; i < 50; ++i) {
      const xpert_status status = xpert_cancel(engine);
      expect(status == XPERT_OK || status == XPERT_CLOSED, "cancel");
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 2; ++i) threads.emplace_back([engine] { expect(xpert_close(engine) == XPERT_OK, "close"); });
  for (std::thread &thread : threads) thread.join();
  char *found = nullptr;
  expect(xpert_describe(engine, &found) == XPERT_CLOSED && !found, "closed at the end");
  expect(std::strstr(xpert_last_error(), std::to_string(engine).c_str()) != nullptr, "the message names the engine");
}

}  // namespace

int main(int n, char **words) {
  if (n != 4) return 3;
  const int rounds = std::atoi(words[2]);
  std::vector<std::thread> users;
  for (int user = 0; user < 2; ++user) {
    users.emplace_back([=] {
      for (int i = 0; i < rounds; ++i) round_of(words[1], std::string(words[3]) + "/out-" + std::to_string(user));
    });
  }
  for (std::thread &user : users) user.join();
  std::printf("{\"answers\": %d, \"cancelled\": %d, \"closed\": %d}\n", answers.load(), cancelled.load(), closed.load());
}
