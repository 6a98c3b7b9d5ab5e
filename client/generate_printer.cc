#include "client/generate_printer.h"

#include <cstdio>
#include <variant>

#include "absl/strings/str_cat.h"
#include "client/generate_json.h"

namespace based {
namespace {

std::string TextOf(const DeltaEvent& delta) {
  if (delta.token_ids.empty()) return delta.text;
  std::string ids;
  for (const int32_t id : delta.token_ids) absl::StrAppend(&ids, id, " ");
  return ids;
}

}  // namespace

void GeneratePrinter::Print(const GenerateEvent& event) {
  any_ = true;
  if (const auto* done = std::get_if<DoneEvent>(&event)) stats_.Add(*done);
  if (options_.json) {
    std::printf("%s\n", ToJson(event).c_str());
  } else {
    PrintText(event);
  }
  std::fflush(stdout);
}

void GeneratePrinter::PrintText(const GenerateEvent& event) {
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
    const std::string text = TextOf(*delta);
    if (options_.several) {
      texts_[delta->index] += text;
    } else {
      std::fwrite(text.data(), 1, text.size(), stdout);
    }
  } else if (const auto* done = std::get_if<DoneEvent>(&event); done && options_.several) {
    std::printf("[%d] %s\n", done->index, texts_[done->index].c_str());
    texts_.erase(done->index);
  }
}

void GeneratePrinter::End() {
  if (!any_) return;
  if (!options_.json && !options_.several) std::printf("\n");
  // Of completions that the call's failure cut.
  for (const auto& [index, text] : texts_) std::printf("[%d] %s\n", index, text.c_str());
  std::fflush(stdout);
  if (!options_.stats) return;
  const std::chrono::duration<double> total = Clock::now() - start_;
  std::fprintf(stderr, "%s\n", stats_.Line(total.count()).c_str());
}

}  // namespace based
