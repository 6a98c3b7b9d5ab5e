// What a service manager hears of a daemon whose load and whose steps take as long as the test
// wants.
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "server/daemon.h"
#include "tests/server/free_port.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

using std::chrono::milliseconds;

constexpr int32_t kVocab = 61;  // of tests/golden/tiny-a
constexpr milliseconds kWatchdog(800);
constexpr milliseconds kLong(60'000);

// A door that threads wait at.
class Door {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void Close() {
    MutexLock lock(mutex_);
    open_ = false;
  }
  void Pass() {
    MutexLock lock(mutex_);
    ++waiting_;
    changed_.NotifyAll();
    const auto limit = Clock::now() + kLong;
    while (!open_ && Clock::now() < limit) changed_.WaitUntil(mutex_, limit);
    --waiting_;
  }
  void WaitForSomebody() {
    MutexLock lock(mutex_);
    const auto limit = Clock::now() + kLong;
    while (waiting_ == 0 && Clock::now() < limit) changed_.WaitUntil(mutex_, limit);
    EXPECT_GT(waiting_, 0);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct Doors {
  Door load;
  Door collect;  // of every step
  std::atomic<bool> fail{false};
};

class DoorExecutable final : public Executable {
 public:
  explicit DoorExecutable(Doors& doors) : doors_(doors), sim_(SimModel{.vocab_size = kVocab}) {}

  const ExecutableInfo& info() const override { return sim_.info(); }
  absl::Status CreateSlots(int32_t count) override { return sim_.CreateSlots(count); }
  absl::Status Launch(const StepTable& table) override {
    if (doors_.fail) return absl::InternalError("failed as told");
    return sim_.Launch(table);
  }
  absl::Status SupplyRules(absl::Span<const SampleRules* const> rules) override {
    return sim_.SupplyRules(rules);
  }
  absl::Status Collect(StepOutput& output) override {
    doors_.collect.Pass();
    return sim_.Collect(output);
  }
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override {
    return sim_.ClearSlots(slots);
  }
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override {
    return sim_.CopySlots(copies);
  }
  absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) override {
    return sim_.ExportSlot(slot, position, image);
  }
  absl::Status ImportSlot(int32_t slot, int64_t position,
                          absl::Span<const std::byte> image) override {
    return sim_.ImportSlot(slot, position, image);
  }

 private:
  Doors& doors_;
  SimExecutable sim_;
};

class DoorBackend final : public Backend {
 public:
  explicit DoorBackend(Doors& doors) : doors_(doors) {}
  std::string name() const override { return "sim"; }
  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program&,
                                                      const CompileOptions&) override {
    doors_.load.Pass();
    return std::make_unique<DoorExecutable>(doors_);
  }

 private:
  Doors& doors_;
};

class Manager {
 public:
  Manager() : path_(testing::TempDir() + "daemon_notify" + std::to_string(::getpid())) {
    std::filesystem::remove(path_);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    const auto limit = std::chrono::microseconds(kWatchdog).count();
    ::setenv("WATCHDOG_USEC", std::to_string(limit).c_str(), 1);
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
    ::close(fd_);
    std::filesystem::remove(path_);
  }

  // The next message that begins with `begin`; false when none has come within `limit`. Others are
  // counted as passed over.
  bool Hears(const std::string& begin, milliseconds limit = kLong) {
    const auto end = Clock::now() + limit;
    while (Clock::now() < end) {
      char buffer[4096];
      const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (got < 0) {
        std::this_thread::sleep_for(milliseconds(5));
        continue;
      }
      if (std::string(buffer, static_cast<size_t>(got)).rfind(begin, 0) == 0) return true;
    }
    return false;
  }

 private:
  const std::string path_;
  const int fd_ = ::socket(AF_UNIX, SOCK_DGRAM, 0);
};

// A stream of tokens that nobody reads until the end.
grpc::Status Generate(const std::string& address, int64_t max_tokens) {
  const auto stub = v1::CompletionService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + kLong);
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(1);
  request.mutable_stop()->set_max_tokens(max_tokens);
  request.mutable_stop()->set_ignore_eos(true);
  const auto reader = stub->Generate(&context, request);
  for (v1::GenerateResponse response; reader->Read(&response);) {
  }
  return reader->Finish();
}

TEST(DaemonNotify, ReadyWhenItServesAndPingsOnlyWhileTheEngineGoesRound) {
  Manager manager;
  Doors doors;
  doors.collect.Open();
  DoorBackend backend(doors);
  DaemonOptions options;
  options.model_dir = std::string(BASED_SOURCE_DIR) + "/tests/golden/tiny-a";
  options.engine.slots = 2;
  options.server.listen = absl::StrCat("127.0.0.1:", FreePort());
  options.drain_timeout = std::chrono::seconds(10);
  std::future<absl::Status> daemon =
      std::async(std::launch::async, [&] { return RunDaemon(options, backend); });

  EXPECT_TRUE(manager.Hears("STATUS=loading"));
  doors.load.WaitForSomebody();
  EXPECT_FALSE(manager.Hears("READY=1", milliseconds(200)));
  doors.load.Open();
  EXPECT_TRUE(manager.Hears("READY=1\nSTATUS=serving tiny-a: 0 of 2 slots in use, 0 queued"));
  EXPECT_TRUE(manager.Hears("WATCHDOG=1")) << "an idle engine is well";
  EXPECT_TRUE(manager.Hears("WATCHDOG=1"));

  doors.collect.Close();
  std::future<grpc::Status> call =
      std::async(std::launch::async, [&] { return Generate(options.server.listen, 5); });
  doors.collect.WaitForSomebody();
  // What was told before, and the round that went before may still be told of once.
  while (manager.Hears("WATCHDOG=1", milliseconds(1))) {
  }
  manager.Hears("WATCHDOG=1", kWatchdog);
  EXPECT_FALSE(manager.Hears("WATCHDOG=1", 2 * kWatchdog)) << "the engine thread hangs";
  doors.collect.Open();
  EXPECT_TRUE(manager.Hears("WATCHDOG=1")) << "it goes on";
  EXPECT_TRUE(call.get().ok());

  doors.fail = true;
  EXPECT_EQ(Generate(options.server.listen, 5).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(manager.Hears("STOPPING=1\nSTATUS=the device failed"));
  ASSERT_EQ(daemon.wait_for(kLong), std::future_status::ready);
  EXPECT_EQ(daemon.get().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace based
