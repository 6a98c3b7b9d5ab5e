// The daemon's certificates: read and checked together, replaced while it runs. Thread-safe.
//
// A connection's handshake takes the newest set that passed the checks; connections that exist keep
// theirs. Over gRPC's fetcher of certificates rather than its watcher of files (1.51), which would
// hand out half-written pairs.
#ifndef BASED_SERVER_TLS_H_
#define BASED_SERVER_TLS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"
#include "kernels/base/mutex.h"

namespace based {

struct TlsFiles {
  std::string cert;       // PEM: the server's certificate, then its chain
  std::string key;        // PEM: its private key, without a passphrase
  std::string client_ca;  // PEM: authorities that clients' certificates must come from; empty: none

  bool enabled() const { return !cert.empty(); }
};

class TlsCertificates : public std::enable_shared_from_this<TlsCertificates> {
 public:
  // What handshakes use.
  struct Pem {
    std::string cert;
    std::string key;
    std::string client_ca;
  };

  // INVALID_ARGUMENT or NOT_FOUND naming the file and what is wrong with it: unreadable, no PEM, a
  // key that is not the certificate's, expired.
  static absl::StatusOr<std::shared_ptr<TlsCertificates>> Load(const TlsFiles& files);

  // Reads the files again; after an error the certificates in use stay.
  absl::Status Reload();
  // Reload if a file is another than at the last attempt; `changed` says whether one was.
  absl::Status ReloadIfChanged(bool& changed);

  // For one server. Holds on to this object.
  std::shared_ptr<grpc::ServerCredentials> NewCredentials();

  // The certificates in use and their number, which grows with each reload.
  std::pair<Pem, int64_t> current() const;
  const TlsFiles& files() const { return files_; }

 private:
  explicit TlsCertificates(TlsFiles files) : files_(std::move(files)) {}

  const TlsFiles files_;
  mutable Mutex mutex_;
  Pem pem_ ABSL_GUARDED_BY(mutex_);
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string stamp_ ABSL_GUARDED_BY(mutex_);  // of the files at the last attempt
};

}  // namespace based

#endif  // BASED_SERVER_TLS_H_
