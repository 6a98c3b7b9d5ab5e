#include "kernels/reference/mixers.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/reference/ops.h"
#include "kernels/rope_phase.h"

namespace based::reference {
namespace {

int64_t PackedFeatures(int64_t feature_dim) {
  return 1 + feature_dim + feature_dim * (feature_dim + 1) / 2;
}

// phi(x) of program.h: [1 ; x^_i ; x^_i^2 / sqrt(2) ; x^_i x^_j for i < j].
std::vector<double> TaylorFeatures(const double* x, int32_t feature_dim) {
  const double scale = 1 / std::sqrt(std::sqrt(static_cast<double>(feature_dim)));
  std::vector<double> scaled(x, x + feature_dim);
  for (double& value : scaled) value *= scale;

  std::vector<double> phi = {1};
  phi.insert(phi.end(), scaled.begin(), scaled.end());
  for (const double value : scaled) phi.push_back(value * value / std::sqrt(2.0));
  for (size_t i = 0; i < scaled.size(); ++i) {
    for (size_t j = i + 1; j < scaled.size(); ++j) phi.push_back(scaled[i] * scaled[j]);
  }
  return phi;
}

// rot(x, position) of program.h, for all heads of one row.
std::vector<double> Rotate(const WindowMixOp& op, const double* x, int64_t position) {
  const int32_t half = op.head_dim / 2;
  std::vector<double> rotated(static_cast<size_t>(op.heads * op.head_dim));
  for (int32_t i = 0; i < half; ++i) {
    const double angle = RopeAngle(RopeTurnsPerToken(op.rope_base, i, op.head_dim), position);
    const double cosine = std::cos(angle);
    const double sine = std::sin(angle);
    for (int32_t head = 0; head < op.heads; ++head) {
      const double* pair = x + head * op.head_dim + i;
      double* out = rotated.data() + head * op.head_dim + i;
      out[0] = pair[0] * cosine - pair[half] * sine;
      out[half] = pair[half] * cosine + pair[0] * sine;
    }
  }
  return rotated;
}

// One visible token's part of one head.
struct KeyValue {
  const double* key;    // [E], rotated
  const double* value;  // [E]
};

// out = softmax_u(query . key_u / sqrt(E)) value_u
void AttendHead(const double* query, const std::vector<KeyValue>& visible, int32_t head_dim,
                double* out) {
  std::vector<double> scores(visible.size(), 0.0);
  for (size_t u = 0; u < visible.size(); ++u) {
    for (int32_t e = 0; e < head_dim; ++e) scores[u] += query[e] * visible[u].key[e];
    scores[u] /= std::sqrt(static_cast<double>(head_dim));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  std::fill_n(out, head_dim, 0.0);
  for (size_t u = 0; u < visible.size(); ++u) {
    const double weight = std::exp(scores[u] - max);
    sum += weight;
    for (int32_t e = 0; e < head_dim; ++e) out[e] += weight * visible[u].value[e];
  }
  for (int32_t e = 0; e < head_dim; ++e) out[e] /= sum;
}

}  // namespace

int64_t StateSize(const ConvMixOp& op) { return int64_t{op.kernel - 1} * op.channels; }

void ConvMixToken(const ConvMixOp& op, const Matrix& taps, const double* in, double* state,
                  double* out) {
  const double* a = in;
  const double* gate = in + op.channels;
  const int32_t past = op.kernel - 1;
  for (int32_t j = 0; j < op.channels; ++j) {
    double sum = taps.row(j)[past] * a[j];
    for (int32_t i = 0; i < past; ++i) {
      sum += taps.row(j)[i] * state[int64_t{i} * op.channels + j];
    }
    out[j] = Silu(sum) * gate[j];
  }
  if (past == 0) return;
  std::copy(state + op.channels, state + StateSize(op), state);
  std::copy_n(a, op.channels, state + StateSize(op) - op.channels);
}

int64_t StateSize(const TaylorMixOp& op) {
  return op.heads * PackedFeatures(op.feature_dim) * (op.head_dim + 1);
}

void TaylorMixToken(const TaylorMixOp& op, int64_t position, const double* in, double* state,
                    double* out) {
  const int32_t feature_dim = op.feature_dim;
  const int32_t head_dim = op.head_dim;
  const int64_t features = PackedFeatures(feature_dim);
  for (int32_t head = 0; head < op.heads; ++head) {
    const double* q = in + head * feature_dim;
    const double* k = in + (op.heads + head) * feature_dim;
    const double* v = in + 2 * op.heads * feature_dim + head * head_dim;
    double* s = state + head * features * (head_dim + 1);
    double* z = s + features * head_dim;

    const std::vector<double> phi_k = TaylorFeatures(k, feature_dim);
    for (int64_t p = 0; p < features; ++p) {
      for (int32_t e = 0; e < head_dim; ++e) s[p * head_dim + e] += phi_k[p] * v[e];
      z[p] += phi_k[p];
    }
    z[0] = static_cast<double>(position + 1);

    const std::vector<double> phi_q = TaylorFeatures(q, feature_dim);
    double denominator = op.eps;
    for (int64_t p = 0; p < features; ++p) denominator += phi_q[p] * z[p];
    for (int32_t e = 0; e < head_dim; ++e) {
      double numerator = 0;
      for (int64_t p = 0; p < features; ++p) numerator += phi_q[p] * s[p * head_dim + e];
      out[head * head_dim + e] = numerator / denominator;
    }
  }
}

int64_t StateSize(const WindowMixOp& op) {
  return 2 * int64_t{op.window_left} * op.heads * op.head_dim;
}

void WindowMixToken(const WindowMixOp& op, int64_t position, const double* in, double* state,
                    double* out) {
  const int64_t window = op.window_left;
  const int32_t width = op.heads * op.head_dim;
  const std::vector<double> query = Rotate(op, in, position);
  const std::vector<double> key = Rotate(op, in + width, position);
  const double* value = in + 2 * width;
  double* keys = state;
  double* values = state + window * width;

  std::vector<KeyValue> visible;
  for (int32_t head = 0; head < op.heads; ++head) {
    const int32_t column = head * op.head_dim;
    visible.clear();
    for (int64_t u = std::max<int64_t>(0, position - window); u < position; ++u) {
      const int64_t offset = (u % window) * width + column;
      visible.push_back({keys + offset, values + offset});
    }
    visible.push_back({key.data() + column, value + column});
    AttendHead(query.data() + column, visible, op.head_dim, out + column);
  }
  if (window == 0) return;
  std::copy_n(key.data(), width, keys + (position % window) * width);
  std::copy_n(value, width, values + (position % window) * width);
}

}  // namespace based::reference
