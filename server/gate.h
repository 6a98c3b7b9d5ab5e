// What every gRPC call passes first: who asks, and whether there is a model to ask. Thread-safe.
#ifndef BASED_SERVER_GATE_H_
#define BASED_SERVER_GATE_H_

#include <atomic>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "grpcpp/grpcpp.h"
#include "server/access.h"

namespace based {

class Gate {
 public:
  struct Entry {
    Engine& engine;
    Caller caller;
  };

  // `access` must outlive the gate.
  explicit Gate(const AccessControl& access) : access_(access) {}

  // Calls reach `engine`, which outlives them, from now on. Until then they are refused with
  // UNAVAILABLE: the model is loading.
  void Open(Engine& engine) { engine_.store(&engine, std::memory_order_release); }

  // `needed` empty: any key will do. The errors of Authorize come first.
  absl::StatusOr<Entry> Enter(const grpc::CallbackServerContext& context,
                              std::optional<Permission> needed,
                              absl::string_view request_id = "") const;

 private:
  const AccessControl& access_;
  std::atomic<Engine*> engine_{nullptr};
};

}  // namespace based

#endif  // BASED_SERVER_GATE_H_
