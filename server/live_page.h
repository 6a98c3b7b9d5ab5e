// The files of the live page, built into the program: it needs no file and fetches nothing from
// elsewhere.
#ifndef BASED_SERVER_LIVE_PAGE_H_
#define BASED_SERVER_LIVE_PAGE_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace based {

struct PageFile {
  absl::string_view path;  // as the browser asks for it
  const char* content_type;
  absl::string_view body;
};

// "/", its style, its script and Chart.js. They live as long as the program.
absl::Span<const PageFile> LivePage();

}  // namespace based

#endif  // BASED_SERVER_LIVE_PAGE_H_
