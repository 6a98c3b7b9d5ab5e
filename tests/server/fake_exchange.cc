#include "tests/server/fake_exchange.h"

#include <chrono>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace based {

void FakeExchange::Respond(HttpResponse response) {
  MutexLock lock(mutex_);
  if (begun_) return;
  response_ = std::move(response);
  begun_ = ended_ = true;
  waiting_.clear();
  changed_.NotifyAll();
}

void FakeExchange::Begin(HttpResponse head) {
  MutexLock lock(mutex_);
  if (begun_) return;
  response_ = std::move(head);
  begun_ = true;
}

size_t FakeExchange::Write(std::string_view piece) {
  MutexLock lock(mutex_);
  if (!ended_) waiting_ += piece;
  return waiting_.size();
}

void FakeExchange::DropWaiting() {
  MutexLock lock(mutex_);
  waiting_.clear();
}

void FakeExchange::End() {
  MutexLock lock(mutex_);
  ended_ = true;
  changed_.NotifyAll();
}

void FakeExchange::OnClosed(std::function<void()> closed) {
  MutexLock lock(mutex_);
  on_closed_ = std::move(closed);
}

void FakeExchange::Close() {
  std::function<void()> closed;
  {
    MutexLock lock(mutex_);
    closed.swap(on_closed_);
  }
  if (closed) closed();
}

bool FakeExchange::WaitForEnd() {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  MutexLock lock(mutex_);
  while (!ended_ && std::chrono::steady_clock::now() < limit) changed_.WaitUntil(mutex_, limit);
  return ended_;
}

bool FakeExchange::ended() const {
  MutexLock lock(mutex_);
  return ended_;
}

HttpResponse FakeExchange::response() const {
  MutexLock lock(mutex_);
  HttpResponse response = response_;
  response.body += waiting_;
  return response;
}

std::string FakeExchange::Header(const std::string& name) const {
  const HttpResponse answer = response();
  for (const HttpHeader& header : answer.headers) {
    if (header.name == name) return header.value;
  }
  return "";
}

std::vector<nlohmann::json> EventsOf(const std::string& body) {
  std::vector<nlohmann::json> events;
  bool done = false;
  for (absl::string_view event : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
    if (done || !absl::ConsumePrefix(&event, "data: ")) return {};
    done = event == "[DONE]";
    if (!done) events.push_back(nlohmann::json::parse(event.begin(), event.end()));
  }
  return done ? events : std::vector<nlohmann::json>();
}

}  // namespace based
