#include "engine/weight_scan.h"

#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace based {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;   // unit of work; part of the digest's definition
constexpr int64_t kBlockBytes = 64 << 10;  // checked, then hashed while still in cache
constexpr unsigned kMaxThreads = 16;
constexpr int64_t kFinite = -1;

int64_t BytesOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Per element: the exponent's bits, and its lowest bit. An all-ones exponent (NaN or Inf) plus that
// bit carries into the sign's place, which the mask left empty; nothing carries further.
struct ExponentBits {
  uint64_t mask;
  uint64_t lowest;
};

ExponentBits BitsOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {0x7f800000'7f800000, 0x00800000'00800000};
    case DType::kF16:
      return {0x7c007c00'7c007c00, 0x04000400'04000400};
    case DType::kBF16:
      return {0x7f807f80'7f807f80, 0x00800080'00800080};
  }
  return {};
}

uint64_t SignPlaces(DType dtype) {
  return dtype == DType::kF32 ? 0x80000000'80000000 : 0x80008000'80008000;
}

// Whether all `bytes` (any number, no alignment needed) are of finite elements.
bool AllFinite(const std::byte* data, DType dtype, int64_t bytes) {
  const ExponentBits bits = BitsOf(dtype);
  uint64_t carry = 0;
  int64_t at = 0;
  for (; at + 8 <= bytes; at += 8) {
    uint64_t word;
    std::memcpy(&word, data + at, sizeof(word));
    carry |= (word & bits.mask) + bits.lowest;
  }
  uint64_t tail = 0;
  std::memcpy(&tail, data + at, static_cast<size_t>(bytes - at));
  carry |= (tail & bits.mask) + bits.lowest;
  return (carry & SignPlaces(dtype)) == 0;
}

bool IsNan(const std::byte* element, DType dtype) {
  uint32_t word = 0;
  std::memcpy(&word, element, static_cast<size_t>(BytesOf(dtype)));
  const uint32_t exponent =
      static_cast<uint32_t>(BitsOf(dtype).mask) & (dtype == DType::kF32 ? 0xffffffffu : 0xffffu);
  const uint32_t magnitude = word & (dtype == DType::kF32 ? 0x7fffffffu : 0x7fffu);
  return magnitude > exponent;
}

struct Piece {
  const WeightView* weight = nullptr;
  int64_t offset = 0;  // bytes into the weight
  int64_t bytes = 0;
  XXH128_hash_t hash = {};       // set by the scan
  int64_t non_finite = kFinite;  // index in the weight of the first NaN or Inf
};

std::vector<Piece> CutIntoPieces(absl::Span<const WeightView> weights) {
  std::vector<Piece> pieces;
  for (const WeightView& weight : weights) {
    const int64_t bytes = weight.rows * weight.cols * BytesOf(weight.dtype);
    for (int64_t offset = 0; offset < bytes; offset += kPieceBytes) {
      pieces.push_back(
          {.weight = &weight, .offset = offset, .bytes = std::min(kPieceBytes, bytes - offset)});
    }
  }
  return pieces;
}

void ScanPiece(Piece& piece, XXH3_state_t* state) {
  const DType dtype = piece.weight->dtype;
  const std::byte* data = static_cast<const std::byte*>(piece.weight->data) + piece.offset;
  XXH3_128bits_reset(state);
  for (int64_t at = 0; at < piece.bytes; at += kBlockBytes) {
    const int64_t bytes = std::min(kBlockBytes, piece.bytes - at);
    if (piece.non_finite == kFinite && !AllFinite(data + at, dtype, bytes)) {
      const int64_t before = (piece.offset + at) / BytesOf(dtype);
      piece.non_finite = before + *FindNonFinite(data + at, dtype, bytes / BytesOf(dtype));
    }
    XXH3_128bits_update(state, data + at, static_cast<size_t>(bytes));
  }
  piece.hash = XXH3_128bits_digest(state);
}

void ScanAll(std::vector<Piece>& pieces) {
  std::atomic<size_t> next = 0;
  const auto work = [&pieces, &next] {
    XXH3_state_t* state = XXH3_createState();
    for (size_t i = next++; i < pieces.size(); i = next++) ScanPiece(pieces[i], state);
    XXH3_freeState(state);
  };
  const size_t most = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxThreads);
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < std::min(most, pieces.size()); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

std::string HexDigest(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)));
}

}  // namespace

std::optional<int64_t> FindNonFinite(const void* data, DType dtype, int64_t count) {
  const int64_t element = BytesOf(dtype);
  const std::byte* bytes = static_cast<const std::byte*>(data);
  for (int64_t begin = 0; begin < count * element; begin += kBlockBytes) {
    const int64_t end = std::min(begin + kBlockBytes, count * element);
    if (AllFinite(bytes + begin, dtype, end - begin)) continue;
    for (int64_t at = begin; at < end; at += element) {
      if (!AllFinite(bytes + at, dtype, element)) return at / element;
    }
  }
  return std::nullopt;
}

WeightScan ScanWeights(absl::Span<const WeightView> weights, std::string_view header) {
  std::vector<Piece> pieces = CutIntoPieces(weights);
  ScanAll(pieces);
  WeightScan scan;
  std::string summary = std::string(header) + "\n";
  for (const WeightView& weight : weights) {
    absl::StrAppend(&summary, weight.name, " ", static_cast<int>(weight.dtype), " ", weight.rows,
                    " ", weight.cols, "\n");
  }
  for (const Piece& piece : pieces) {
    if (piece.non_finite != kFinite && scan.weight < 0) {
      scan.weight = piece.weight - weights.data();
      scan.element = piece.non_finite;
      const DType dtype = piece.weight->dtype;
      scan.nan = IsNan(
          static_cast<const std::byte*>(piece.weight->data) + piece.non_finite * BytesOf(dtype),
          dtype);
    }
    absl::StrAppend(&summary, HexDigest(piece.hash), "\n");
  }
  scan.digest = HexDigest(XXH3_128bits(summary.data(), summary.size()));
  return scan;
}

}  // namespace based
