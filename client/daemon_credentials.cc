#include "client/daemon_credentials.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "client/input.h"
#include "grpcpp/support/client_interceptor.h"
#include "kernels/base/status.h"

ABSL_FLAG(bool, tls, false, "TLS, with the system's certificate authorities unless --tls_ca.");
ABSL_FLAG(std::string, tls_ca, "", "PEM file of authorities to trust for the daemon; means --tls.");
ABSL_FLAG(std::string, tls_cert, "", "PEM file of a certificate to show, where the daemon asks.");
ABSL_FLAG(std::string, tls_key, "", "PEM file of the private key of --tls_cert.");
ABSL_FLAG(std::string, api_key, "",
          "API key. Others on this machine may see it; --api_key_file and the environment variable "
          "BASED_API_KEY do not show it.");
ABSL_FLAG(std::string, api_key_file, "", "File that holds the API key.");

namespace based {
namespace {

namespace interceptors = grpc::experimental;

// Adds `authorization` to every call. Call credentials would do, but gRPC sends them over TLS only,
// and a daemon on loopback may ask for a key without.
class AddKey final : public interceptors::Interceptor {
 public:
  explicit AddKey(std::string value) : value_(std::move(value)) {}

  void Intercept(interceptors::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            interceptors::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", value_);
    }
    methods->Proceed();
  }

 private:
  const std::string value_;
};

class AddKeyFactory final : public interceptors::ClientInterceptorFactoryInterface {
 public:
  explicit AddKeyFactory(const std::string& key) : value_("Bearer " + key) {}
  interceptors::Interceptor* CreateClientInterceptor(interceptors::ClientRpcInfo*) override {
    return new AddKey(value_);
  }

 private:
  const std::string value_;
};

absl::StatusOr<std::string> ReadKey() {
  if (!absl::GetFlag(FLAGS_api_key).empty()) return absl::GetFlag(FLAGS_api_key);
  const std::string path = absl::GetFlag(FLAGS_api_key_file);
  if (!path.empty()) {
    BASED_ASSIGN_OR_RETURN(const std::string text, ReadInput(path));
    return std::string(absl::StripAsciiWhitespace(text));
  }
  const char* variable = std::getenv("BASED_API_KEY");
  return std::string(variable == nullptr ? "" : variable);
}

}  // namespace

absl::StatusOr<DaemonCredentials> ReadDaemonCredentials() {
  DaemonCredentials credentials;
  BASED_ASSIGN_OR_RETURN(credentials.api_key, ReadKey());
  for (const char c : credentials.api_key) {
    if (c <= ' ' || c >= 127) {
      return absl::InvalidArgumentError(
          "the API key holds a character that is no printable ASCII; expected one line");
    }
  }
  const std::string ca = absl::GetFlag(FLAGS_tls_ca);
  const std::string cert = absl::GetFlag(FLAGS_tls_cert);
  const std::string key = absl::GetFlag(FLAGS_tls_key);
  if (cert.empty() != key.empty()) {
    return UsageError("--tls_cert and --tls_key belong together; expected both or neither");
  }
  if (!absl::GetFlag(FLAGS_tls) && ca.empty() && cert.empty()) {
    credentials.channel = grpc::InsecureChannelCredentials();
    return credentials;
  }
  grpc::SslCredentialsOptions options;
  if (!ca.empty()) {
    BASED_ASSIGN_OR_RETURN(options.pem_root_certs, ReadInput(ca));
  }
  if (!cert.empty()) {
    BASED_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadInput(cert));
    BASED_ASSIGN_OR_RETURN(options.pem_private_key, ReadInput(key));
  }
  credentials.channel = grpc::SslCredentials(options);
  return credentials;
}

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          const DaemonCredentials& credentials,
                                          const grpc::ChannelArguments& arguments) {
  std::vector<std::unique_ptr<interceptors::ClientInterceptorFactoryInterface>> factories;
  if (!credentials.api_key.empty()) {
    factories.push_back(std::make_unique<AddKeyFactory>(credentials.api_key));
  }
  return interceptors::CreateCustomChannelWithInterceptors(address, credentials.channel, arguments,
                                                           std::move(factories));
}

}  // namespace based
