#include "server/tls.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int64_t kMaxPemBytes = 1 << 20;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using PrivateKey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// A key with a passphrase is an error, never a question on the terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

Bio MemoryOf(const std::string& pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free};
}

absl::Status Wrong(const std::string& path, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", reason));
}

// The first certificate of a file.
absl::StatusOr<Certificate> FirstCertificate(const std::string& pem, const std::string& path) {
  const Bio bio = MemoryOf(pem);
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr), X509_free);
  if (certificate == nullptr) return Wrong(path, "no certificate in PEM form");
  return certificate;
}

absl::Status CheckPair(const TlsCertificates::Pem& pem, const TlsFiles& files) {
  BASED_ASSIGN_OR_RETURN(const Certificate certificate, FirstCertificate(pem.cert, files.cert));
  const Bio bio = MemoryOf(pem.key);
  const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr),
                       EVP_PKEY_free);
  if (key == nullptr) return Wrong(files.key, "no private key in PEM form without a passphrase");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Wrong(files.key, absl::StrCat("not the private key of ", files.cert));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) <= 0) {
    return Wrong(files.cert, "the certificate has expired");
  }
  return absl::OkStatus();
}

// Tells whether files were replaced or written since.
std::string StampOf(const TlsFiles& files) {
  std::string stamp;
  for (const std::string* path : {&files.cert, &files.key, &files.client_ca}) {
    struct stat info {};
    if (path->empty() || ::stat(path->c_str(), &info) != 0) info = {};
    absl::StrAppend(&stamp, info.st_ino, " ", info.st_size, " ", info.st_mtim.tv_sec, " ",
                    info.st_mtim.tv_nsec, ";");
  }
  return stamp;
}

absl::StatusOr<TlsCertificates::Pem> Read(const TlsFiles& files) {
  TlsCertificates::Pem pem;
  BASED_ASSIGN_OR_RETURN(pem.cert, ReadWholeFile(files.cert, kMaxPemBytes));
  BASED_ASSIGN_OR_RETURN(pem.key, ReadWholeFile(files.key, kMaxPemBytes));
  BASED_RETURN_IF_ERROR(CheckPair(pem, files));
  if (!files.client_ca.empty()) {
    BASED_ASSIGN_OR_RETURN(pem.client_ca, ReadWholeFile(files.client_ca, kMaxPemBytes));
    BASED_RETURN_IF_ERROR(FirstCertificate(pem.client_ca, files.client_ca).status());
  }
  return pem;
}

// gRPC's credentials of one server. It asks Fetch at every handshake.
class FetchingCredentials final : public grpc::ServerCredentials {
 public:
  explicit FetchingCredentials(std::shared_ptr<TlsCertificates> certificates)
      : certificates_(std::move(certificates)) {
    const auto request = certificates_->files().client_ca.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, Fetch, this));
  }
  ~FetchingCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self_pointer, grpc_ssl_server_certificate_config** config) {
    auto& self = *static_cast<FetchingCredentials*>(self_pointer);
    const auto [pem, generation] = self.certificates_->current();
    {
      MutexLock lock(self.mutex_);
      if (generation == self.handed_out_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
      self.handed_out_ = generation;
    }
    const grpc_ssl_pem_key_cert_pair pair = {.private_key = pem.key.c_str(),
                                             .cert_chain = pem.cert.c_str()};
    // gRPC insists on authorities, even where no client is asked for a certificate.
    *config = grpc_ssl_server_certificate_config_create(
        pem.client_ca.empty() ? pem.cert.c_str() : pem.client_ca.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<TlsCertificates> certificates_;
  grpc_server_credentials* credentials_ = nullptr;
  Mutex mutex_;
  int64_t handed_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<TlsCertificates>> TlsCertificates::Load(const TlsFiles& files) {
  std::shared_ptr<TlsCertificates> certificates(new TlsCertificates(files));
  BASED_RETURN_IF_ERROR(certificates->Reload());
  return certificates;
}

absl::Status TlsCertificates::Reload() {
  const std::string stamp = StampOf(files_);
  absl::StatusOr<Pem> pem = Read(files_);
  MutexLock lock(mutex_);
  stamp_ = stamp;
  if (!pem.ok()) return pem.status();
  pem_ = *std::move(pem);
  ++generation_;
  return absl::OkStatus();
}

absl::Status TlsCertificates::ReloadIfChanged(bool& changed) {
  {
    MutexLock lock(mutex_);
    changed = stamp_ != StampOf(files_);
  }
  return changed ? Reload() : absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> TlsCertificates::NewCredentials() {
  return std::make_shared<FetchingCredentials>(shared_from_this());
}

std::pair<TlsCertificates::Pem, int64_t> TlsCertificates::current() const {
  MutexLock lock(mutex_);
  return {pem_, generation_};
}

}  // namespace based
