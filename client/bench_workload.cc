#include "client/bench_workload.h"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/command.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "kernels/base/check.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr double kMaxTokens = 1'000'000;  // the daemon's limit of a prompt and of an output
constexpr int64_t kMaxTraceLineBytes = 1 << 16;
constexpr double kMaxArrivalS = 1e7;

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(absl::string_view flag,
                                                             absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  const absl::string_view kind = parts.size() == 2 ? parts[0] : "fixed";
  std::vector<double> numbers;
  bool numeric = true;
  for (const absl::string_view number : absl::StrSplit(parts.back(), ',')) {
    numeric = absl::SimpleAtod(number, &numbers.emplace_back()) && numbers.back() >= 0 && numeric;
  }
  const auto length = [](double n) { return n >= 1 && n <= kMaxTokens; };
  LengthDistribution lengths;
  bool good = numeric;
  if (kind == "fixed" && numbers.size() == 1) {
    lengths.low_ = lengths.high_ = numbers[0];
    good = good && length(numbers[0]);
  } else if (kind == "uniform" && numbers.size() == 2) {
    lengths.low_ = numbers[0];
    lengths.high_ = numbers[1];
    good = good && length(numbers[0]) && length(numbers[1]) && numbers[0] <= numbers[1];
  } else if (kind == "lognormal" && numbers.size() == 3) {
    lengths.kind_ = Kind::kLognormal;
    lengths.median_ = numbers[0];
    lengths.sigma_ = numbers[1];
    lengths.most_ = numbers[2];
    good = good && length(numbers[0]) && numbers[1] <= 10 && length(numbers[2]);
  } else {
    good = false;
  }
  if (good) return lengths;
  return UsageError(absl::StrCat("--", flag, " is '", text,
                                 "'; expected N, uniform:LOW,HIGH or lognormal:MEDIAN,SIGMA,MOST "
                                 "with lengths of 1 to 1000000 tokens"));
}

int32_t LengthDistribution::Draw(std::mt19937_64& random) const {
  if (kind_ == Kind::kUniform) {
    return std::uniform_int_distribution<int32_t>(static_cast<int32_t>(low_),
                                                  static_cast<int32_t>(high_))(random);
  }
  const double drawn = std::lognormal_distribution<double>(std::log(median_), sigma_)(random);
  return static_cast<int32_t>(std::clamp(std::round(drawn), 1.0, most_));
}

absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY));
  LineReader reader(file.get(), path, kMaxTraceLineBytes);
  std::vector<TraceLine> trace;
  while (true) {
    BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) break;
    if (reader.line().empty()) continue;
    const std::string place = absl::StrCat(path, ":", reader.number());
    const std::string_view text(reader.line().data(), reader.line().size());
    BASED_ASSIGN_OR_RETURN(const nlohmann::json line, ParseJsonObject(text, place, 2));
    JsonFields fields(line, place, "");
    const double earliest = trace.empty() ? 0 : trace.back().arrival_s;
    if (fields.Find("arrival_s") == nullptr) fields.Missing("arrival_s", "seconds");
    const TraceLine read{
        .arrival_s = fields.NumberOr("arrival_s", earliest, kMaxArrivalS, earliest),
        .prompt_tokens = fields.Int("prompt_tokens", 1, static_cast<int32_t>(kMaxTokens)),
        .output_tokens = fields.Int("output_tokens", 1, static_cast<int32_t>(kMaxTokens))};
    BASED_RETURN_IF_ERROR(fields.status());
    trace.push_back(read);
  }
  if (trace.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": holds no request"));
  return trace;
}

Workload::Workload(WorkloadOptions options, int32_t vocab_size)
    : options_(std::move(options)), vocab_size_(vocab_size), random_(options_.seed) {}

bool Workload::exhausted() const {
  return options_.arrivals == Arrivals::kTrace && made_ >= options_.trace.size();
}

std::vector<int32_t> Workload::Ids(uint64_t seed, int32_t count) const {
  std::minstd_rand random(static_cast<uint32_t>(seed * 2654435761u + options_.seed));
  std::uniform_int_distribution<int32_t> id(0, vocab_size_ - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& drawn : ids) drawn = id(random);
  return ids;
}

BenchRequest Workload::Next() {
  BASED_CHECK(!exhausted());
  BenchRequest request;
  int32_t own_tokens = 0;
  if (options_.arrivals == Arrivals::kTrace) {
    const TraceLine& line = options_.trace[made_];
    request.at_s = line.arrival_s;
    own_tokens = line.prompt_tokens;
    request.output_tokens = line.output_tokens;
  } else {
    own_tokens = options_.prompt.Draw(random_);
    request.output_tokens = options_.output.Draw(random_);
    if (options_.arrivals == Arrivals::kPoisson) {
      at_s_ += std::exponential_distribution<double>(options_.rate)(random_);
    } else if (options_.arrivals == Arrivals::kFixed) {
      at_s_ = static_cast<double>(made_) / options_.rate;
    }
    request.at_s = at_s_;
  }
  if (options_.prefixes > 0) {
    // Odd seeds are of prefixes, even ones of the rest.
    const uint64_t prefix = std::uniform_int_distribution<uint64_t>(
        0, static_cast<uint64_t>(options_.prefixes) - 1)(random_);
    request.prompt = Ids(2 * prefix + 1, options_.prefix_tokens);
  }
  const std::vector<int32_t> own = Ids(2 * made_, own_tokens);
  request.prompt.insert(request.prompt.end(), own.begin(), own.end());
  ++made_;
  return request;
}

}  // namespace based
