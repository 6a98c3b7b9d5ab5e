// What every gRPC call passes first: who asks, and whether there is a model to ask. Thread-safe.
#ifndef BASED_SERVER_GATE_H_
#define BASED_SERVER_GATE_H_

#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "grpcpp/grpcpp.h"
#include "server/access.h"

namespace based {

class Gate {
 public:
  struct Entry {
    Engine& engine;
    const ChatFormat& chat;
    Caller caller;
  };

  // `access` must outlive the gate.
  Gate(const AccessControl& access, int32_t max_header_bytes)
      : access_(access), max_header_bytes_(max_header_bytes) {}

  // Calls reach `engine`, which outlives them, from now on; its model chats as `chat` has it. Until
  // then they are refused with UNAVAILABLE: the model is loading. Call once.
  void Open(Engine& engine, ChatFormat chat) {
    chat_ = std::move(chat);
    engine_.store(&engine, std::memory_order_release);
  }

  // `needed` empty: any key will do. INVALID_ARGUMENT for metadata above the limit, which gRPC
  // (1.51) enforces frame by frame only, then the errors of Authorize, then those of the engine's
  // absence.
  absl::StatusOr<Entry> Enter(const grpc::CallbackServerContext& context,
                              std::optional<Permission> needed,
                              absl::string_view request_id = "") const;

 private:
  const AccessControl& access_;
  const int32_t max_header_bytes_;
  ChatFormat chat_;  // read once engine_ is set
  std::atomic<Engine*> engine_{nullptr};
};

}  // namespace based

#endif  // BASED_SERVER_GATE_H_
