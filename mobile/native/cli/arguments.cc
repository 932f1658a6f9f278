#include "arguments.h"

#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "xpert/xpert.h"

namespace xpert_device {

namespace {

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string menu(const std::vector<Command> &commands) {
  std::string text = "xpert-device COMMAND: choose, fine-tune and answer by a bundle, without Python\n\n";
  for (const Command &command : commands) {
    const std::string name = command.name;
    text += "  " + name + std::string(name.size() < 10 ? 10 - name.size() : 1, ' ') + command.help + "\n";
  }
  return text + "\nxpert-device COMMAND --help says what each takes.";
}

std::string usage(const Command &command) {
  std::string text = std::string("xpert-device ") + command.name;
  for (const char *place : command.places) text += std::string(" ") + place;
  text += std::string(" [OPTIONS]: ") + command.help + "\n";
  for (const Option &option : command.options) {
    const std::string name = "--" + dashed(option.name) + (option.kind == Kind::kFlag ? "" : option.kind == Kind::kText ? " TEXT" : " N");
    text += "\n  " + name + std::string(name.size() < 24 ? 24 - name.size() : 1, ' ') + option.help;
  }
  return text;
}

Json number(const std::string &name, const char *text) {
  char *end = nullptr;
  const long long whole = std::strtoll(text, &end, 10);
  if (*text && !*end) return whole;
  const double value = std::strtod(text, &end);
  if (!*text || *end || !std::isfinite(value)) throw Refusal(XPERT_BAD_INPUT, "--" + name + " is '" + text + "', expected a number.");
  return value;
}

const Command &find(const std::vector<Command> &commands, const std::string &name) {
  auto same = [&](const Command &command) { return name == command.name; };
  auto found = std::find_if(commands.begin(), commands.end(), same);
  if (found == commands.end()) throw Refusal(XPERT_BAD_INPUT, "There is no command '" + name + "'.\n\n" + menu(commands));
  return *found;
}

}  // namespace

std::string Arguments::text(const char *name, const std::string &otherwise) const { return has(name) ? options.at(name).get<std::string>() : otherwise; }

Json Arguments::only(const std::vector<const char *> &names) const {
  Json found = Json::object();
  for (const char *name : names) {
    if (has(name)) found[name] = options.at(name);
  }
  return found;
}

Arguments parse(const std::vector<Command> &commands, int n, char **words) {
  const std::string first = n > 1 ? words[1] : "--help";
  if (first == "--help" || first == "-h") throw Refusal(0, menu(commands));
  if (first == "--version") throw Refusal(0, xpert_version());
  Arguments arguments;
  arguments.command = &find(commands, first);
  const Command &command = *arguments.command;
  std::vector<std::string> names;
  for (const Option &option : command.options) names.push_back(dashed(option.name));
  std::vector<option> known;
  for (size_t i = 0; i < names.size(); ++i) {
    known.push_back({names[i].c_str(), command.options[i].kind == Kind::kFlag ? no_argument : required_argument, nullptr, 0});
  }
  known.push_back({"help", no_argument, nullptr, 0});
  known.push_back({nullptr, 0, nullptr, 0});
  opterr = 0;
  int index = 0;
  for (int found; (found = getopt_long(n - 1, words + 1, "", known.data(), &index)) != -1;) {
    if (found == '?') throw Refusal(XPERT_BAD_INPUT, std::string("'") + words[optind] + "' is no option, or lacks its value.\n\n" + usage(command));
    const size_t place = static_cast<size_t>(index);
    if (place == command.options.size()) throw Refusal(0, usage(command));
    const Option &option = command.options[place];
    arguments.options[option.name] = option.kind == Kind::kFlag ? Json(true) : option.kind == Kind::kText ? Json(optarg) : number(names[place], optarg);
  }
  for (int i = optind + 1; i < n; ++i) arguments.places.push_back(words[i]);
  if (arguments.places.size() != command.places.size()) {
    throw Refusal(XPERT_BAD_INPUT, "Expected " + std::to_string(command.places.size()) + " arguments, found " +
                                       std::to_string(arguments.places.size()) + ".\n\n" + usage(command));
  }
  return arguments;
}

}  // namespace xpert_device
