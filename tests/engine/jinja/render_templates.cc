// Renders templates for a test that knows what they must give: each line of the standard input is
// an object {"template": source, "globals": {..}}, and is answered by a line {"text": ..} or
// {"error": ..}.
#include <iostream>
#include <string>

#include "engine/jinja/template.h"
#include "nlohmann/json.hpp"

int main() {
  using namespace based::jinja;
  using nlohmann::json;
  std::string line;
  while (std::getline(std::cin, line)) {
    const json ask = json::parse(line);
    Entries globals;
    for (const auto& [name, value] : ask["globals"].items()) {
      globals.emplace_back(name, Value::OfJson(value));
    }
    const auto compiled = Template::Compile(ask["template"].get_ref<const std::string&>());
    const auto text = compiled.ok()
                          ? compiled->Render(std::move(globals), std::chrono::system_clock::now())
                          : compiled.status();
    const json answer =
        text.ok() ? json{{"text", *text}} : json{{"error", std::string(text.status().message())}};
    std::cout << answer.dump() << std::endl;
  }
  return 0;
}
