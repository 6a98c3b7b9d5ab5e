#include "server/live_page.h"

#include <cstddef>

// BASED_EMBED(NAME, FILE): the bytes of FILE between kNAME and kNAMEEnd.
#define BASED_EMBED(name, file)                                             \
  asm(".section .rodata\n" #name ":\n.incbin \"" file "\"\n" #name "_end:\n" \
      ".byte 0\n.previous\n");                                              \
  extern "C" const char name[];                                             \
  extern "C" const char name##_end[]

BASED_EMBED(based_page_index, BASED_PAGE_DIR "/index.html");
BASED_EMBED(based_page_style, BASED_PAGE_DIR "/live.css");
BASED_EMBED(based_page_script, BASED_PAGE_DIR "/live.js");
BASED_EMBED(based_page_chart, BASED_CHART_JS);

namespace based {
namespace {

constexpr char kScript[] = "text/javascript; charset=utf-8";

absl::string_view Between(const char* begin, const char* end) {
  return {begin, static_cast<size_t>(end - begin)};
}

}  // namespace

absl::Span<const PageFile> LivePage() {
  static const PageFile files[] = {
      {"/", "text/html; charset=utf-8", Between(based_page_index, based_page_index_end)},
      {"/live.css", "text/css; charset=utf-8", Between(based_page_style, based_page_style_end)},
      {"/live.js", kScript, Between(based_page_script, based_page_script_end)},
      {"/chart.js", kScript, Between(based_page_chart, based_page_chart_end)},
  };
  return files;
}

}  // namespace based
