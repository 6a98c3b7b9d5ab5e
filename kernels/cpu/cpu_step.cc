// The ops of one step. Each is a parallel loop whose items are computed independently.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cpu/cpu_executable.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/matmul.h"
#include "kernels/rope_phase.h"
#include "kernels/sampling.h"
#include "kernels/weights.h"

namespace based::cpu {
namespace {

// Least work of a thread in a parallel loop, measured as what takes longer than waking it.
constexpr int64_t kEmbedRows = 8;
constexpr int64_t kNormRows = 8;
constexpr int64_t kMatmulUnits = 2;
constexpr int64_t kConvValues = 4096;
constexpr int64_t kMixHeads = 2;
constexpr int64_t kConvChannels = 64;  // one item of the convolution's loop

}  // namespace

void CpuExecutable::ResolveRows(const StepTable& table) {
  tokens_ = table.tokens;
  positions_.resize(tokens_.size());
  for (size_t t = 0; t < tokens_.size(); ++t) {
    // A step without a draw (NaN logits) leaves no id; its sequence is given up, so any id will do.
    if (tokens_[t] == kTokenFromPrevious) {
      tokens_[t] = std::max(0, previous_ids_[static_cast<size_t>(table.sources[t])]);
    }
  }
  for (const Span& span : table.spans) {
    for (int32_t i = 0; i < span.length; ++i) {
      positions_[static_cast<size_t>(span.row + i)] = span.position + i;
    }
  }
  for (const RopeTable& rope : compiled_.ropes) {
    pool_.For(rows(), 4, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t row = begin; row < end; ++row) {
        for (size_t pair = 0; pair < rope.turns_per_token.size(); ++pair) {
          const double angle =
              RopeAngle(rope.turns_per_token[pair], positions_[static_cast<size_t>(row)]);
          const int64_t at = row * rope.stride + static_cast<int64_t>(pair);
          rope.cosine[at] = static_cast<float>(std::cos(angle));
          rope.sine[at] = static_cast<float>(std::sin(angle));
        }
      }
    });
  }
}

void CpuExecutable::RunOp(const EmbedStep& step, const StepTable&) {
  pool_.For(rows(), kEmbedRows, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = tokens_[static_cast<size_t>(row)] * step.table.cols;
      WidenValues(step.table, first, step.table.cols, step.out.row(row));
    }
  });
}

void CpuExecutable::RunOp(const NormStep& step, const StepTable&) {
  pool_.For(rows(), kNormRows, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t row = begin; row < end; ++row) {
      RmsNorm(step.in.row(row), step.weight, step.eps, step.in.width, step.out.row(row));
    }
  });
}

void CpuExecutable::RunOp(const LinearStep& step, const StepTable&) {
  const MatmulArgs args{.matrix = &step.matrix,
                        .in = step.in.data,
                        .in_stride = step.in.width,
                        .rows = rows(),
                        .epilogue = step.epilogue,
                        .out = step.out.data,
                        .out_stride = step.out.width};
  pool_.For(step.matrix.units(), kMatmulUnits,
            [&](int64_t begin, int64_t end, int32_t) { Matmul(args, begin, end); });
}

void CpuExecutable::RunOp(const ConvStep& step, const StepTable& table) {
  const auto spans = static_cast<int64_t>(table.spans.size());
  const int64_t items = (step.channels + kConvChannels - 1) / kConvChannels * spans;
  const int64_t grain = 1 + kConvValues * items / (rows() * step.channels);
  pool_.For(items, grain, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t item = begin; item < end; ++item) {
      const Span& span = table.spans[static_cast<size_t>(item % spans)];
      const int64_t first = item / spans * kConvChannels;
      ConvMix({.in = step.in.row(span.row),
               .taps = step.taps,
               .state = slot(span.slot) + step.state,
               .out = step.out.row(span.row),
               .rows = span.length,
               .channels = step.channels,
               .kernel = step.kernel},
              first, std::min(step.channels, first + kConvChannels));
    }
  });
}

void CpuExecutable::RunOp(const TaylorStep& step, const StepTable& table) {
  const auto spans = static_cast<int64_t>(table.spans.size());
  const int64_t keys = step.heads * step.layout.feature_dim;  // width of q and of k
  pool_.For(step.heads * spans, kMixHeads, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t item = begin; item < end; ++item) {
      const Span& span = table.spans[static_cast<size_t>(item % spans)];
      const int64_t head = item / spans;
      const float* in = step.in.row(span.row);
      const float* q = in + head * step.layout.feature_dim;
      TaylorMix({.layout = &step.layout,
                 .q = q,
                 .k = q + keys,
                 .v = in + 2 * keys + head * step.layout.head_dim,
                 .in_stride = step.in.width,
                 .out = step.out.row(span.row) + head * step.layout.head_dim,
                 .out_stride = step.out.width,
                 .rows = span.length,
                 .position = span.position,
                 .eps = step.eps,
                 .state = slot(span.slot) + step.state + head * step.layout.floats,
                 .scratch = scratch(thread)});
    }
  });
}

void CpuExecutable::RunOp(const WindowStep& step, const StepTable& table) {
  const auto spans = static_cast<int64_t>(table.spans.size());
  const int64_t width = step.heads * step.layout.head_dim;  // of q, of k and of v
  const RopeTable& rope = compiled_.ropes[step.rope];
  pool_.For(step.heads * spans, kMixHeads, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t item = begin; item < end; ++item) {
      const Span& span = table.spans[static_cast<size_t>(item % spans)];
      const int64_t head = item / spans;
      const float* q = step.in.row(span.row) + head * step.layout.head_dim;
      WindowMix({.layout = &step.layout,
                 .q = q,
                 .k = q + width,
                 .v = q + 2 * width,
                 .in_stride = step.in.width,
                 .cosine = rope.cosine + span.row * rope.stride,
                 .sine = rope.sine + span.row * rope.stride,
                 .angle_stride = rope.stride,
                 .out = step.out.row(span.row) + head * step.layout.head_dim,
                 .out_stride = step.out.width,
                 .rows = span.length,
                 .position = span.position,
                 .state = slot(span.slot) + step.state + head * step.layout.floats,
                 .scratch = scratch(thread)});
    }
  });
}

void CpuExecutable::RunOp(const LogitsStep& step, const StepTable& table) {
  const auto samples = static_cast<int64_t>(table.samples.size());
  for (int64_t first = 0; first < samples; first += step.slab_rows) {
    const int64_t count = std::min(step.slab_rows, samples - first);
    ComputeLogits(step, table, first, count);
    pool_.For(count, 1, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) {
        const auto index = static_cast<size_t>(first + i);
        Sample(table.samples[index], index, step, step.logits.row(i));
      }
    });
  }
}

void CpuExecutable::ComputeLogits(const LogitsStep& step, const StepTable& table, int64_t first,
                                  int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float* x = step.in.row(table.samples[static_cast<size_t>(first + i)].row);
    if (step.norm_weight == nullptr) {
      std::copy_n(x, step.in.width, step.normed.row(i));
    } else {
      RmsNorm(x, step.norm_weight, step.eps, step.in.width, step.normed.row(i));
    }
  }
  const MatmulArgs args{.matrix = &step.table,
                        .in = step.normed.data,
                        .in_stride = step.normed.width,
                        .rows = count,
                        .epilogue = Epilogue::kStore,
                        .out = step.logits.data,
                        .out_stride = step.logits.width};
  pool_.For(step.table.units(), kMatmulUnits,
            [&](int64_t begin, int64_t end, int32_t) { Matmul(args, begin, end); });
}

void CpuExecutable::SizeOutput(const StepTable& table) {
  const size_t samples = table.samples.size();
  output_.ids.assign(samples, kNone);
  output_.logprobs.assign(samples, 0.0);
  output_.finite.assign(samples, 0);
  logits_offset_.assign(samples, -1);
  int64_t offset = 0;
  int64_t top = 0;
  top_offset_.resize(samples);
  for (size_t i = 0; i < samples; ++i) {
    top_offset_[i] = top;
    top += std::min(table.samples[i].top_logprobs, info_.vocab_size);
    if (!table.samples[i].logits) continue;
    logits_offset_[i] = offset;
    offset += info_.padded_vocab_size;
  }
  output_.logits.resize(static_cast<size_t>(offset));
  output_.top.assign(static_cast<size_t>(top), TokenScore());
}

void CpuExecutable::Sample(const SampleRow& sample, size_t index, const LogitsStep& step,
                           const float* logits) {
  const auto valid = absl::MakeConstSpan(logits, static_cast<size_t>(step.vocab_size));
  const bool finite = AllFinite(logits, step.vocab_size);
  if (finite && sample.sample) {
    const bool greedy = sample.params.temperature == 0 && sample.rules == nullptr;
    output_.ids[index] = greedy ? ArgMax(logits, step.vocab_size)
                                : SampleFromLogits(valid, sample.params, sample.rules);
  }
  const int32_t target = sample.target == kNone ? output_.ids[index] : sample.target;
  output_.finite[index] = finite ? 1 : 0;
  if (finite && sample.logprob && target != kNone) {
    output_.logprobs[index] = LogProbability(valid, target);
  }
  if (finite && sample.top_logprobs > 0) {
    std::vector<TokenScore> top;
    TopScores(valid, sample.top_logprobs, top);
    std::copy(top.begin(), top.end(), output_.top.begin() + top_offset_[index]);
  }
  if (logits_offset_[index] >= 0) {
    std::copy_n(logits, step.logits.width, output_.logits.begin() + logits_offset_[index]);
  }
}

}  // namespace based::cpu
