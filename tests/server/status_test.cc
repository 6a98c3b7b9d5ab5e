// Errors on the wire: codes, details, and messages that every peer can read.
#include "server/status.h"

#include "engine/tokenizer.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace based {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status wire;
  EXPECT_TRUE(wire.ParseFromString(status.error_details()));
  return wire;
}

TEST(ToGrpcStatus, KeepsCodeAndMessageAndNamesTheField) {
  const grpc::Status status = ToGrpcStatus(
      absl::InvalidArgumentError("stop.strings[3] is 300 bytes long; expected 1 to 256"),
      FailedAt::kAdmission);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "stop.strings[3] is 300 bytes long; expected 1 to 256");
  const google::rpc::Status wire = Details(status);
  EXPECT_EQ(wire.message(), status.error_message());
  ASSERT_EQ(wire.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(wire.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "INVALID_FIELD");
  EXPECT_EQ(info.metadata().at("field"), "stop.strings[3]");
}

TEST(ToGrpcStatus, OnlyAdmissionMayBeRetried) {
  const absl::Status full = absl::ResourceExhaustedError("full");
  EXPECT_EQ(Details(ToGrpcStatus(full, FailedAt::kAdmission)).details_size(), 2);
  EXPECT_EQ(Details(ToGrpcStatus(full, FailedAt::kStream)).details_size(), 1);
}

TEST(ToGrpcStatus, LimitsOfBatchJobsAreNoReasonToTryAgain) {
  const grpc::Status limit = ToGrpcStatus(absl::ResourceExhaustedError("full"), FailedAt::kBatch);
  const google::rpc::Status wire = Details(limit);
  ASSERT_EQ(wire.details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(wire.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "BATCH_LIMIT");
  const absl::Status draining = absl::UnavailableError("draining");
  EXPECT_EQ(Details(ToGrpcStatus(draining, FailedAt::kBatch)).details_size(), 2);
}

TEST(ToGrpcStatus, MessagesAreBoundedUtf8) {
  const std::string bad = ToGrpcStatus(absl::InvalidArgumentError("text is \xFF\xFE"),
                                       FailedAt::kAdmission).error_message();
  EXPECT_EQ(bad, "text is \\xff\\xfe");
  std::string euros = "x";
  while (euros.size() < 4000) euros += "\u20AC";
  const std::string cut =
      ToGrpcStatus(absl::InternalError(euros), FailedAt::kStream).error_message();
  EXPECT_LE(cut.size(), kMaxStatusMessageBytes + 3);
  EXPECT_EQ(FindInvalidUtf8(cut), std::string::npos);
}

TEST(FieldOfMessage, KnowsFieldsFromWords) {
  EXPECT_EQ(FieldOfMessage("sampling.top_p is 2"), "sampling.top_p");
  EXPECT_EQ(FieldOfMessage("token_ids.ids[7] is -1"), "token_ids.ids[7]");
  EXPECT_EQ(FieldOfMessage("n: 0"), "n");
  EXPECT_EQ(FieldOfMessage("the queue is full"), "");
  EXPECT_EQ(FieldOfMessage("sampling.nothing is 2"), "");
  EXPECT_EQ(FieldOfMessage("n.m is 2"), "");
  EXPECT_EQ(FieldOfMessage("chat.messages[0].role is 7"), "chat.messages[0].role");
  EXPECT_EQ(FieldOfMessage(""), "");
}

}  // namespace
}  // namespace based
