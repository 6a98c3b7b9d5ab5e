#include "server/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "engine/delivery_batch.h"
#include "server/original.h"

namespace based {

// The writes of one batch to one connection. Of one thread.
class Connection::Run final : public DeliveryBatch::Listener {
 public:
  static Run& Of(const Connection* connection, DeliveryBatch& batch) {
    for (Run* run : open_) {
      if (run->connection_ == connection) return *run;
    }
    auto run = std::make_shared<Run>(connection, batch.is_short());
    open_.push_back(run.get());
    batch.AtEnd(run);
    return *run;
  }

  Run(const Connection* connection, bool as_one) : connection_(connection), as_one_(as_one) {}

  void Add(std::shared_ptr<Writer> writer) { writers_.push_back(std::move(writer)); }

  void OnBatchEnd() override {
    open_.erase(std::find(open_.begin(), open_.end(), this));
    writing_ = this;
    WriteRest();
    writing_ = nullptr;
  }

  static bool BeginOthers() {
    if (writing_ == nullptr || writing_->next_ == writing_->writers_.size()) return false;
    // The others may enter the kernel themselves.
    if (writing_->as_one_) std::exchange(writing_, nullptr)->WriteRest();
    return true;
  }

 private:
  void WriteRest() {
    while (next_ < writers_.size()) writers_[next_++]->Write();
  }

  static inline thread_local std::vector<Run*> open_;
  static inline thread_local Run* writing_ = nullptr;

  const Connection* const connection_;
  const bool as_one_;
  std::vector<std::shared_ptr<Writer>> writers_;
  size_t next_ = 0;
};

void Connection::WriteAtBatchEnd(std::shared_ptr<Writer> writer) {
  DeliveryBatch* const batch = DeliveryBatch::Current();
  if (batch == nullptr || streams_.load(std::memory_order_relaxed) < 2) return writer->Write();
  Run::Of(this, *batch).Add(std::move(writer));
}

bool Connection::BeginOthers() { return Run::BeginOthers(); }

}  // namespace based

extern "C" ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static const based::Original<decltype(&sendmsg)> next("sendmsg");
  // So that the client wakes once for all of them. Should they fail, the kernel waits for 200 ms.
  if (based::Connection::BeginOthers()) flags |= MSG_MORE;
  return next(fd, message, flags);
}
