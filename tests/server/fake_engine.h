// An Engine without a model: sequences emit scripted tokens from one thread of its own, so that the
// server can be tested alone. Thread-safe, as Engine is.
#ifndef BASED_TESTS_SERVER_FAKE_ENGINE_H_
#define BASED_TESTS_SERVER_FAKE_ENGINE_H_

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "kernels/base/mutex.h"

namespace based {

struct FakeEngineOptions {
  bool tokenizer = true;
  // Hands out no token until Release.
  bool hold = false;
  // Submit's answer when not OK.
  absl::Status reject;
  // Text of every token.
  std::string token_text = "ab ";
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(FakeEngineOptions options = {}, Observer* observer = nullptr);
  ~FakeEngine() override;

  absl::StatusOr<RequestId> Submit(Request request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestId id, absl::Status status) override;
  absl::Status SetTenants(std::vector<TenantLimits> tenants) override;
  std::vector<TenantUse> tenants() const override;
  Capacity capacity() const override;
  const Model& model() const override { return model_; }
  bool Drain(std::chrono::milliseconds limit) override;
  absl::Status health() const override { return absl::OkStatus(); }

  // Lets held sequences go on.
  void Release();
  // Waits, at most ten seconds, until `count` cancellations have come; false if they have not.
  bool WaitForCancels(size_t count);
  // Likewise for the ends of sequences.
  bool WaitForEnds(size_t count);

  std::vector<Request> requests() const;         // as submitted
  std::vector<TenantLimits> limits() const;      // as set last
  std::vector<absl::Status> cancels() const;     // as given to Cancel
  std::vector<absl::Status> ends() const;        // how sequences ended, in order

 private:
  struct Sequence {
    Request request;
    std::shared_ptr<TokenSink> sink;
    int64_t tokens = 0;
    bool started = false;
    absl::Status end;  // set: end with this
  };

  void Run();
  // One token of one sequence, or its end; true when it is over. Called without the lock.
  bool Advance(Sequence& sequence, const absl::Status& end, bool may_emit, absl::Status& result);

  const FakeEngineOptions options_;
  Observer* const observer_;
  Model model_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<RequestId, std::unique_ptr<Sequence>> sequences_ ABSL_GUARDED_BY(mutex_);
  RequestId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool held_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> cancels_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> ends_ ABSL_GUARDED_BY(mutex_);
  std::vector<TenantLimits> tenants_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: starts when all else is made
};

}  // namespace based

#endif  // BASED_TESTS_SERVER_FAKE_ENGINE_H_
