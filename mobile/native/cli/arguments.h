// The command line of xpert-device.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace xpert_device {

using Json = nlohmann::json;

/** What the command was asked wrongly: the message, and the exit status. */
class Refusal : public std::runtime_error {
 public:
  Refusal(int status, const std::string &message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

enum class Kind { kFlag, kText, kNumber };

/** An option of a command: --max-steps is {"max_steps", …}. */
struct Option {
  const char *name;
  Kind kind;
  const char *help;
};

struct Command {
  const char *name, *help;
  std::vector<const char *> places;  // arguments without a name
  std::vector<Option> options;
};

/** What a command was called with, options under their names with "_". */
struct Arguments {
  const Command *command = nullptr;
  std::vector<std::string> places;
  Json options = Json::object();

  bool has(const char *name) const { return options.contains(name); }
  std::string text(const char *name, const std::string &otherwise = "") const;
  /** The options of these names that were given, as the C API takes them. */
  Json only(const std::vector<const char *> &names) const;
};

/** Reads the command line; throws a Refusal, with status 0 where help was asked for. */
Arguments parse(const std::vector<Command> &commands, int n, char **words);

}  // namespace xpert_device
