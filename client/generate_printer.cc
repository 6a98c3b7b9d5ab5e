#include "client/generate_printer.h"

#include <cstdio>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
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
  if (std::holds_alternative<DeltaEvent>(event) && first_ == Clock::time_point()) {
    first_ = Clock::now();
  }
  if (const auto* done = std::get_if<DoneEvent>(&event)) {
    done_ = *done;
    generated_ += done->usage.generated_tokens;
  }
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
  if (options_.stats) PrintStats();
}

void GeneratePrinter::PrintStats() const {
  const auto seconds = [this](Clock::time_point time) {
    return std::chrono::duration<double>(time - start_).count();
  };
  const std::string reason =
      absl::AsciiStrToLower(absl::StripPrefix(done_.finish_reason, "FINISH_REASON_"));
  const double decode_s = 1e-6 * static_cast<double>(done_.timings.decode_us);
  std::fprintf(stderr,
               "prompt_tokens=%lld generated_tokens=%lld finish_reason=%s first_token_s=%.3f "
               "total_s=%.3f tokens_per_s=%.1f\n",
               static_cast<long long>(done_.usage.prompt_tokens),
               static_cast<long long>(generated_), reason.c_str(),
               first_ == Clock::time_point() ? 0.0 : seconds(first_), seconds(Clock::now()),
               decode_s > 0 ? static_cast<double>(generated_ - 1) / decode_s : 0.0);
}

}  // namespace based
