#include "engine/json_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace based {
namespace {

using Json = nlohmann::json;

// Watches the parse for what the DOM would hide: keys given twice and nesting without end. A false
// return drops the value, so a hostile text costs no memory beyond its own.
class Watcher {
 public:
  explicit Watcher(int max_depth) : max_depth_(max_depth) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (!fault_.empty()) return false;
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (depth >= max_depth_) {
          fault_ = absl::StrCat("nests deeper than ", max_depth_, " levels");
          return false;
        }
        keys_.resize(static_cast<size_t>(depth) + 1);
        keys_.emplace_back();
        return true;
      case Json::parse_event_t::key: {
        const std::string& key = parsed.get_ref<const std::string&>();
        if (!keys_[static_cast<size_t>(depth)].insert(key).second) {
          fault_ = absl::StrCat("has the key ", JsonExcerpt(parsed), " twice");
        }
        return fault_.empty();
      }
      default:
        return true;
    }
  }

  const std::string& fault() const { return fault_; }

 private:
  const int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of the object open at each depth
  std::string fault_;
};

}  // namespace

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t max_bytes) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    const std::string message = absl::StrCat(path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  }
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(path + ": not a regular file");
  if (info.st_size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", info.st_size, " bytes long, at most ", max_bytes, " expected"));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  std::ifstream stream(path, std::ios::binary);
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream) return absl::InvalidArgumentError(path + ": cannot be read");
  return text;
}

absl::StatusOr<Json> ParseJsonObject(std::string_view text, const std::string& path,
                                     int max_depth) {
  Watcher watcher(max_depth);
  try {
    Json parsed = Json::parse(text.begin(), text.end(),
                              [&watcher](int depth, Json::parse_event_t event, Json& value) {
                                return watcher(depth, event, value);
                              });
    if (!watcher.fault().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": JSON ", watcher.fault()));
    }
    if (!parsed.is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": outermost JSON value is ",
                                                     JsonExcerpt(parsed), ", expected an object"));
    }
    return parsed;
  } catch (const Json::exception& error) {
    // error.what() quotes what was read last; a hostile text must not flood the log.
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not JSON: ", absl::string_view(error.what()).substr(0, 300)));
  }
}

std::string JsonExcerpt(const Json& value) {
  constexpr size_t kLongest = 60;
  if (value.is_object()) return "an object";
  if (value.is_array()) return absl::StrCat("an array of ", value.size());
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = absl::StrCat(text.substr(0, kLongest), "...");
  return text;
}

}  // namespace based
