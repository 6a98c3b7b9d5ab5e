#include "kernels/cuda/executable.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/program_check.h"
#include "kernels/step_check.h"

namespace based::cuda {
namespace {

// Rows of the captured decode steps: fine where a step is short, coarse where rows are many.
std::vector<int32_t> Buckets(int32_t most) {
  std::vector<int32_t> buckets;
  int32_t rows = 1;
  while (rows < most) {
    buckets.push_back(rows);
    const int32_t step = rows < 4      ? rows
                         : rows < 8    ? 4
                         : rows < 32   ? 8
                         : rows < 64   ? 16
                         : rows < 256  ? 32
                         : rows < 512  ? 64
                         : rows < 1024 ? 128
                                       : 256;
    rows += step;
  }
  buckets.push_back(most);
  return buckets;
}

// An image is this, then the slot's bytes.
struct ImageHeader {
  int64_t position;
  int64_t fold_position;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executable>> CudaExecutable::Create(
    const Program& program, const CompileOptions& compile, const CudaBackendOptions& options) {
  std::unique_ptr<CudaExecutable> executable(new CudaExecutable(compile, options));
  BASED_RETURN_IF_ERROR(executable->Build(program));
  return executable;
}

CudaExecutable::~CudaExecutable() {
  // Buffers must outlive what still runs; a fault here was reported where it arose.
  for (InFlight& step : in_flight_) step.sampling.VoidLate();
  cudaSetDevice(options_.device);
  if (stream_.get() != nullptr) cudaStreamSynchronize(stream_.get());
}

absl::Status CudaExecutable::Build(const Program& program) {
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  BASED_ASSIGN_OR_RETURN(stream_, NewStream());
  embed_rows_ = EmbedRows(program);
  spare_tokens_ = program.spare_tokens;
  buckets_ = Buckets(std::min(compile_.max_rows, compile_.max_spans));
  std::vector<int32_t> prepared = buckets_;
  for (int32_t rows = 256; rows < compile_.max_rows; rows += rows < 3072 ? 256 : 2048) {
    prepared.push_back(rows);
  }
  prepared.push_back(compile_.max_rows);
  std::sort(prepared.begin(), prepared.end());
  prepared.erase(std::unique(prepared.begin(), prepared.end()), prepared.end());
  BASED_ASSIGN_OR_RETURN(
      program_, CompiledProgram::Create(program, compile_, options_, prepared, stream_.get()));
  BASED_RETURN_IF_ERROR(MakeStaging());
  BASED_RETURN_IF_ERROR(LoadKernels());

  cudaDeviceProp properties;
  BASED_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, options_.device));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  BASED_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  info_.backend = "cuda";
  info_.device = absl::StrCat(properties.name, program_->act() == Type::kF32 ? ", fp32" : ", bf16");
  info_.state_layout = program_->state_layout();
  info_.weight_bytes = program_->weight_bytes();
  info_.workspace_bytes = program_->workspace_bytes() + table_.bytes() + results_.bytes();
  info_.slot_bytes = program_->slot_bytes();
  info_.image_bytes = info_.slot_bytes + static_cast<int64_t>(sizeof(ImageHeader));
  info_.available_bytes =
      std::max<int64_t>(static_cast<int64_t>(free_bytes) - options_.reserve_bytes, 0);
  info_.pipeline_depth = spare_tokens_ >= 1 ? 2 : 1;
  info_.vocab_size = program_->vocab_size();
  info_.padded_vocab_size = program_->padded_vocab_size();
  info_.sampling_rules = true;
  info_.top_logprobs = true;
  info_.late_rules = options_.late_rules && info_.pipeline_depth > 1;
  return absl::OkStatus();
}

absl::Status CudaExecutable::MakeStaging() {
  const TableShape largest = {.rows = compile_.max_rows,
                              .decode_spans = compile_.max_spans,
                              .prefill_spans = 0,
                              .samples = std::max(compile_.max_samples, compile_.max_rows),
                              .max_length = 1};
  const int64_t table_bytes = TableView(nullptr, largest).bytes;
  const int64_t result_bytes =
      int64_t{largest.samples} * static_cast<int64_t>(sizeof(SampleResult));
  BASED_ASSIGN_OR_RETURN(table_, DeviceBuffer::Create(table_bytes, "the step table"));
  BASED_ASSIGN_OR_RETURN(results_, DeviceBuffer::Create(result_bytes, "sampling results"));
  BASED_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(results_.data(), 0, static_cast<size_t>(results_.bytes()), stream_.get()));
  for (InFlight& step : in_flight_) {
    BASED_ASSIGN_OR_RETURN(step.table, PinnedBuffer::Create(table_bytes, "the step table"));
    BASED_ASSIGN_OR_RETURN(step.results, PinnedBuffer::Create(result_bytes, "sampling results"));
    BASED_ASSIGN_OR_RETURN(step.sampling,
                           SampleStaging::Create(compile_.max_samples, program_->vocab_size()));
    BASED_ASSIGN_OR_RETURN(step.done, NewEvent());
  }
  return absl::OkStatus();
}

// Steps of padding alone. The driver takes device memory for a kernel when it first runs; later,
// others may have taken all there is.
absl::Status CudaExecutable::LoadKernels() {
  const int32_t rows = std::min(compile_.max_rows, 8);
  const TableShape decode = {.rows = 1, .decode_spans = 1, .samples = 1, .max_length = 1};
  const TableShape mixed = {
      .rows = rows, .decode_spans = 1, .prefill_spans = 1, .samples = 1, .max_length = rows};
  for (const TableShape& shape : {decode, mixed}) {
    FillTable({}, nullptr, shape, in_flight_[0].table.as<std::byte>());
    const TableView view(in_flight_[0].table.as<std::byte>(), shape);
    BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(table_.data(), in_flight_[0].table.data(),
                                               static_cast<size_t>(view.bytes),
                                               cudaMemcpyHostToDevice, stream_.get()));
    BASED_RETURN_IF_ERROR(Enqueue(shape, in_flight_[0]));
    BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_.get()));
  }
  return absl::OkStatus();
}

absl::Status CudaExecutable::CreateSlots(int32_t count) {
  BASED_CHECK(slots_ == 0 && count > 0);
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  BASED_ASSIGN_OR_RETURN(pool_, DeviceBuffer::Create(count * std::max<int64_t>(info_.slot_bytes, 1),
                                                     absl::StrCat(count, " slots")));
  BASED_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(pool_.data(), 0, static_cast<size_t>(pool_.bytes()), stream_.get()));
  slots_ = count;
  fold_position_.assign(static_cast<size_t>(count), 0);
  if (options_.graphs) BASED_RETURN_IF_ERROR(CaptureGraphs());
  BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_.get()));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  BASED_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  info_.available_bytes = static_cast<int64_t>(free_bytes);
  return absl::OkStatus();
}

absl::Status CudaExecutable::CaptureGraphs() {
  for (const int32_t bucket : buckets_) {
    if (bucket > compile_.max_samples) break;
    const TableShape shape = {.rows = bucket,
                              .decode_spans = bucket,
                              .prefill_spans = 0,
                              .samples = bucket,
                              .max_length = 1};
    const StepContext context = {.table = TableView(table_.as<std::byte>(), shape),
                                 .shape = shape,
                                 .pool = {pool_.as<std::byte>(), info_.slot_bytes},
                                 .results = results_.as<SampleResult>(),
                                 .logits_samples = {},
                                 .logits = nullptr};
    BASED_CUDA_RETURN_IF_ERROR(
        cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
    const absl::Status enqueued = program_->Enqueue(context, stream_.get());
    cudaGraph_t captured = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &captured);
    const Graph graph(captured);
    BASED_RETURN_IF_ERROR(enqueued);
    BASED_RETURN_IF_ERROR(ToStatus(ended, absl::StrCat("capturing a step of ", bucket, " rows")));
    cudaGraphExec_t executable = nullptr;
    BASED_CUDA_RETURN_IF_ERROR(cudaGraphInstantiate(&executable, graph.get(), 0));
    graphs_[bucket] = GraphExec(executable);
    BASED_CUDA_RETURN_IF_ERROR(cudaGraphUpload(executable, stream_.get()));
  }
  return absl::OkStatus();
}

absl::Status CudaExecutable::Check(const StepTable& table) const {
  return CheckStepTable(table, {.options = compile_,
                                .slots = slots_,
                                .embed_rows = embed_rows_,
                                .vocab_size = info_.vocab_size,
                                .previous_samples = previous_samples_,
                                .late_rules = info_.late_rules});
}

// Before a step, fold_position_ says how far a slot's state is folded. A span that does not go on
// where the slot was (after a clear, or a test at a far position) finds the ring as it is, taken
// for the tokens just before it.
void CudaExecutable::NoteFolds(const StepTable& table) {
  for (const Span& span : table.spans) {
    int64_t& folded = fold_position_[static_cast<size_t>(span.slot)];
    const int64_t back = std::max(spare_tokens_, 1);
    if (span.position > folded + 1 || span.position < folded + 1 - back) {
      folded = std::max<int64_t>(span.position - 1, 0);
    }
  }
}

absl::Status CudaExecutable::PrepareLogits(const StepTable& table, InFlight& step) {
  step.logits_samples.clear();
  step.drawn.clear();
  for (size_t i = 0; i < table.samples.size(); ++i) {
    step.drawn.push_back(table.samples[i].sample ? 1 : 0);
    if (table.samples[i].logits) step.logits_samples.push_back(static_cast<int32_t>(i));
  }
  step.samples = static_cast<int32_t>(table.samples.size());
  const int64_t bytes = static_cast<int64_t>(step.logits_samples.size()) * info_.padded_vocab_size *
                        static_cast<int64_t>(sizeof(float));
  if (bytes <= step.logits.bytes()) return absl::OkStatus();
  // Raw logits are for verify and tests, which may wait for an allocation.
  BASED_ASSIGN_OR_RETURN(step.logits, PinnedBuffer::Create(bytes, "raw logits"));
  return absl::OkStatus();
}

absl::Status CudaExecutable::Launch(const StepTable& table) {
  BASED_CHECK(launched_ - collected_ < info_.pipeline_depth && !AwaitsRules());
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  BASED_RETURN_IF_ERROR(Check(table));
  InFlight& step = in_flight_[launched_ % 2];
  if (absl::Status started = Start(table, step); !started.ok()) return GiveUp(started);
  for (const Span& span : table.spans) {
    int64_t& folded = fold_position_[static_cast<size_t>(span.slot)];
    folded = std::max(folded, span.position + span.length - 1);
  }
  previous_samples_ = step.samples;
  ++launched_;
  return absl::OkStatus();
}

// All that may allocate comes before the first kernel, which may come to wait for rules.
absl::Status CudaExecutable::Start(const StepTable& table, InFlight& step) {
  BASED_RETURN_IF_ERROR(PrepareLogits(table, step));
  NoteFolds(table);

  TableShape shape = ShapeOf(table);
  const auto bucket = graphs_.lower_bound(std::max(shape.rows, shape.samples));
  const bool replay = shape.prefill_spans == 0 && step.logits_samples.empty() &&
                      shape.samples > 0 && bucket != graphs_.end();
  step.replayed = replay;
  step.padded_rows = replay ? bucket->first - shape.rows : 0;
  if (replay) shape.rows = shape.decode_spans = shape.samples = bucket->first;
  FillTable(table, fold_position_.data(), shape, step.table.as<std::byte>());
  const TableView view(step.table.as<std::byte>(), shape);
  BASED_RETURN_IF_ERROR(step.sampling.Stage(table.samples, view.samples));
  BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(table_.data(), step.table.data(),
                                             static_cast<size_t>(view.bytes),
                                             cudaMemcpyHostToDevice, stream_.get()));
  if (replay) {
    BASED_CUDA_RETURN_IF_ERROR(cudaGraphLaunch(bucket->second.get(), stream_.get()));
  } else {
    BASED_RETURN_IF_ERROR(Enqueue(shape, step));
  }
  if (step.samples > 0) {
    BASED_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(step.results.data(), results_.data(),
                        static_cast<size_t>(step.samples) * sizeof(SampleResult),
                        cudaMemcpyDeviceToHost, stream_.get()));
  }
  BASED_CUDA_RETURN_IF_ERROR(cudaEventRecord(step.done.get(), stream_.get()));
  return absl::OkStatus();
}

bool CudaExecutable::AwaitsRules() const {
  return in_flight_[0].sampling.awaits_rules() || in_flight_[1].sampling.awaits_rules();
}

// The device, if it lives, shall not wait for a caller that stops.
absl::Status CudaExecutable::GiveUp(absl::Status error) {
  for (InFlight& step : in_flight_) step.sampling.VoidLate();
  return error;
}

absl::Status CudaExecutable::SupplyRules(absl::Span<const SampleRules* const> rules) {
  if (rules.empty() && !AwaitsRules()) return absl::OkStatus();
  if (launched_ - collected_ != 1) {
    return GiveUp(absl::InternalError(absl::StrCat("late rules: ", launched_ - collected_,
                                                   " steps are not collected, expected one")));
  }
  return in_flight_[collected_ % 2].sampling.Supply(rules);
}

absl::Status CudaExecutable::Enqueue(const TableShape& shape, InFlight& step) {
  const StepContext context = {.table = TableView(table_.as<std::byte>(), shape),
                               .shape = shape,
                               .pool = {pool_.as<std::byte>(), info_.slot_bytes},
                               .results = results_.as<SampleResult>(),
                               .logits_samples = step.logits_samples,
                               .logits = step.logits.as<float>()};
  return program_->Enqueue(context, stream_.get());
}

absl::Status CudaExecutable::Collect(StepOutput& output) {
  BASED_CHECK(collected_ < launched_);
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  const InFlight& step = in_flight_[collected_ % 2];
  if (step.sampling.awaits_rules()) {
    return GiveUp(absl::InternalError("the step to collect waits for its rules"));
  }
  absl::Status done = ToStatus(cudaEventSynchronize(step.done.get()), "waiting for a step");
  if (!done.ok()) return GiveUp(done);
  ++collected_;
  const size_t count = static_cast<size_t>(step.samples);
  const SampleResult* results = step.results.as<SampleResult>();
  output.ids.resize(count);
  output.logprobs.resize(count);
  output.finite.resize(count);
  for (size_t i = 0; i < count; ++i) {
    if (results[i].finite == kRulesNeverCame) {
      return GiveUp(
          absl::InternalError(absl::StrCat("sample ", i, " waited for its rules for longer than ",
                                           kLateLimitNs / 1'000'000'000, " s")));
    }
    output.ids[i] = step.drawn[i] != 0 ? results[i].id : kNone;
    output.logprobs[i] = results[i].logprob;
    output.finite[i] = results[i].finite != 0 ? 1 : 0;
  }
  const size_t values = step.logits_samples.size() * static_cast<size_t>(info_.padded_vocab_size);
  output.logits.resize(values);
  const float* logits = step.logits.as<float>();
  std::copy_n(logits, values, output.logits.begin());
  step.sampling.CopyTop(output.top);
  output.padded_rows = step.padded_rows;
  output.replayed = step.replayed;
  return absl::OkStatus();
}

std::byte* CudaExecutable::SlotAddress(int32_t slot) const {
  BASED_CHECK(slot >= 0 && slot < slots_);
  return pool_.as<std::byte>() + slot * info_.slot_bytes;
}

absl::Status CudaExecutable::ClearSlots(absl::Span<const int32_t> slots) {
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  for (const int32_t slot : slots) {
    BASED_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(
        SlotAddress(slot), 0, static_cast<size_t>(info_.slot_bytes), stream_.get()));
    fold_position_[static_cast<size_t>(slot)] = 0;
  }
  return absl::OkStatus();
}

absl::Status CudaExecutable::CopySlots(absl::Span<const SlotCopy> copies) {
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  for (const SlotCopy& copy : copies) {
    BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(SlotAddress(copy.to), SlotAddress(copy.from),
                                               static_cast<size_t>(info_.slot_bytes),
                                               cudaMemcpyDeviceToDevice, stream_.get()));
    fold_position_[static_cast<size_t>(copy.to)] = fold_position_[static_cast<size_t>(copy.from)];
  }
  return absl::OkStatus();
}

absl::Status CudaExecutable::ExportSlot(int32_t slot, int64_t position,
                                        absl::Span<std::byte> image) {
  BASED_CHECK(static_cast<int64_t>(image.size()) == info_.image_bytes && !AwaitsRules());
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  const ImageHeader header = {position, fold_position_[static_cast<size_t>(slot)]};
  std::memcpy(image.data(), &header, sizeof(header));
  BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(image.data() + sizeof(header), SlotAddress(slot),
                                             static_cast<size_t>(info_.slot_bytes),
                                             cudaMemcpyDeviceToHost, stream_.get()));
  BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_.get()));
  return absl::OkStatus();
}

absl::Status CudaExecutable::ImportSlot(int32_t slot, int64_t position,
                                        absl::Span<const std::byte> image) {
  BASED_CHECK(static_cast<int64_t>(image.size()) == info_.image_bytes && !AwaitsRules());
  BASED_CUDA_RETURN_IF_ERROR(cudaSetDevice(options_.device));
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof(header));
  const int64_t back = header.position - header.fold_position;
  if (header.position < 0 || back < 0 || back > std::max(spare_tokens_, 1) ||
      header.position != position) {
    return absl::InvalidArgumentError(
        absl::StrCat("slot image: holds ", header.position, " tokens, folded at position ",
                     header.fold_position, ", expected ", position, " tokens"));
  }
  BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(SlotAddress(slot), image.data() + sizeof(header),
                                             static_cast<size_t>(info_.slot_bytes),
                                             cudaMemcpyHostToDevice, stream_.get()));
  BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_.get()));
  fold_position_[static_cast<size_t>(slot)] = header.fold_position;
  return absl::OkStatus();
}

}  // namespace based::cuda
