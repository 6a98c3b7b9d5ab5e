// Bounds what one client may send as headers of calls, which gRPC (1.51) does in part only: it
// keeps all the CONTINUATION frames of a header block, however many, and before the client
// acknowledges the server's settings neither their limit on headers nor that on streams holds. One
// connection that knows this fills the memory, and no key is asked for before.
#ifndef BASED_SERVER_HEADER_GUARD_H_
#define BASED_SERVER_HEADER_GUARD_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace based {

// Follows the frames of one HTTP/2 connection (RFC 9113, section 4.1) on their way in. Looks into
// none but for its kind: headers are counted as they are sent, compressed. Pure; of one thread.
class HeaderGuard {
 public:
  // `most`: bytes of a header block with the heads of its frames, and of all header blocks that
  // come before the settings are acknowledged.
  explicit HeaderGuard(size_t most) : most_(most) {}

  // `bytes` come next. False, from then on, when there are more headers than that. `has_spoken`
  // says whether the server has sent its settings: an acknowledgement before is none.
  bool Pass(absl::string_view bytes, absl::FunctionRef<bool()> has_spoken);

 private:
  static constexpr size_t kPrefaceBytes = 24;
  static constexpr size_t kHeadBytes = 9;

  // A frame's head has come.
  void Begin(absl::FunctionRef<bool()> has_spoken);

  const size_t most_;
  size_t skip_ = kPrefaceBytes;  // bytes that are no head of a frame
  std::array<uint8_t, kHeadBytes> head_{};
  size_t filled_ = 0;  // of head_
  size_t spent_ = 0;
  bool acknowledged_ = false;
};

}  // namespace based

#endif  // BASED_SERVER_HEADER_GUARD_H_
