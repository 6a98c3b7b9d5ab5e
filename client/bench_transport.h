// How a load test's requests reach the daemon.
#ifndef BASED_CLIENT_BENCH_TRANSPORT_H_
#define BASED_CLIENT_BENCH_TRANSPORT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bench_workload.h"
#include "client/http_client.h"
#include "grpcpp/grpcpp.h"

namespace based {

// What all requests share.
struct RequestOptions {
  std::string model;  // empty: the one that is served
  float temperature = 1;
  double timeout_s = 600;
};

// What answers.
struct ServedModel {
  std::string server;  // where, and its version as far as it tells
  std::string name;    // of the model, and what runs it as far as the server tells
  int32_t vocab_size = 0;
};

// Hears of one request, from any thread but one call after the other.
class LoadListener {
 public:
  virtual ~LoadListener() = default;
  virtual void OnSent() = 0;
  virtual void OnTokens(int32_t tokens) = 0;  // that came together
  // Comes last. `code` names the error as the protocol does, and is empty where there is none.
  virtual void OnEnd(absl::string_view code, absl::string_view message) = 0;
};

// Thread-safe. Must outlive its requests.
class LoadTransport {
 public:
  virtual ~LoadTransport() = default;
  // Call once, before any request.
  virtual absl::StatusOr<ServedModel> FindModel() = 0;
  // Every request ends within the timeout. `listener` must live until its OnEnd.
  virtual void Send(const BenchRequest& request, LoadListener* listener) = 0;
  // Ends what is under way.
  virtual void CancelAll() = 0;
};

// Generate calls; `channels` are used in turn. Errors are named by their status code.
std::unique_ptr<LoadTransport> NewGrpcTransport(
    std::vector<std::shared_ptr<grpc::Channel>> channels, const RequestOptions& options);

// Streams of POST /v1/completions, a connection each. Errors are named by HTTP's status and the
// API's code, "429 rate_limit_exceeded", and those of the connection by gRPC's name for it. The
// errors of HttpClient::Open; an empty `api_key` is none.
absl::StatusOr<std::unique_ptr<LoadTransport>> NewHttpTransport(const HttpTarget& target,
                                                                const std::string& api_key,
                                                                const RequestOptions& options);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_TRANSPORT_H_
