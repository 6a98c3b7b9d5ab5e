// Cuts a unary call whose client does not take the answer: flow control would hold it, and its
// memory, for as long as the client keeps the connection. StreamWatch does it for streams.
#ifndef BASED_SERVER_ANSWER_LIMIT_H_
#define BASED_SERVER_ANSWER_LIMIT_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/alarm.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/mutex.h"

namespace based {

class AnswerLimit {
 public:
  // Call before Finish. `limit` is for each MiB of `answer`, begun or whole. Null for one so small
  // that it may stay; else the call is cancelled unless it is done before.
  static std::shared_ptr<AnswerLimit> Begin(grpc::CallbackServerContext* context,
                                            const google::protobuf::Message& answer,
                                            std::chrono::milliseconds limit,
                                            absl::string_view request_id);

  // From the reactor's OnDone: the call is over, and gRPC will destroy it.
  void OnCallDone();

 private:
  AnswerLimit(grpc::CallbackServerContext* context, absl::string_view request_id)
      : context_(context), request_id_(request_id) {}
  void Cut();

  grpc::Alarm alarm_;
  Mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);  // null: the call is over
  const std::string request_id_;
};

// A call that needs nothing more than an answer. Deletes itself in OnDone.
class UnaryAnswer final : public grpc::ServerUnaryReactor {
 public:
  // `limit` as AnswerLimit has it.
  UnaryAnswer(grpc::CallbackServerContext* context, std::chrono::milliseconds limit)
      : context_(context), time_(limit) {}

  // Once, from any thread: `answer` is the call's own message, as it is to be sent.
  void End(const google::protobuf::Message& answer, const grpc::Status& status);

  // One that has ended at once.
  static UnaryAnswer* Ended(grpc::CallbackServerContext* context, std::chrono::milliseconds limit,
                            const google::protobuf::Message& answer, const grpc::Status& status);

 private:
  void OnDone() override;

  grpc::CallbackServerContext* const context_;
  const std::chrono::milliseconds time_;
  std::shared_ptr<AnswerLimit> limit_;
};

}  // namespace based

#endif  // BASED_SERVER_ANSWER_LIMIT_H_
