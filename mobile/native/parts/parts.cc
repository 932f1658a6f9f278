// Reads {"call": name, "arguments": {…}} a line, writes {"result": …} or {"status": number, "message": …} a line.
#include "parts.h"

#include <iostream>

#include "base/error.h"

namespace xpert {

namespace {

Json answer(const Parts &parts, const std::string &line) {
  try {
    Json request = Json::parse(line);
    auto part = parts.find(request.at("call").get<std::string>());
    if (part == parts.end()) bad_input("There is no part '" + request.at("call").get<std::string>() + "'. Check its name.");
    return {{"result", part->second(request.at("arguments"))}};
  } catch (const Error &error) {
    return {{"status", error.status()}, {"message", error.what()}};
  } catch (const std::exception &error) {
    return {{"status", XPERT_INTERNAL}, {"message", error.what()}};
  }
}

}  // namespace

}  // namespace xpert

int main() {
  xpert::Parts parts;
  for (auto &table : {xpert::base_parts(), xpert::chat_parts(), xpert::text_parts(), xpert::choice_parts(), xpert::engine_parts()}) parts.insert(table.begin(), table.end());
  for (std::string line; std::getline(std::cin, line);) {
    xpert::Json found = xpert::answer(parts, line);
    std::cout << found.dump(-1, ' ', false, xpert::Json::error_handler_t::replace) << std::endl;
  }
}
