#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/cuda/cuda_status.h"

namespace based::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kFlushBytes = int64_t{96} << 20;  // more than any L2
constexpr int32_t kCandidates = 20;
constexpr float kHopeless = 1.2f;  // an algorithm whose first timed run takes so much of the best
constexpr int32_t kInvariantRows = 256;  // whose algorithm serves all rows under batch_invariant

cudaDataType_t DataType(Type type) { return type == Type::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

// cuBLASLt is column-major: y^T [n, rows] = (W^T)^T x^T, so W is its transposed A and x its B.
struct Problem {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a, b, c;
};

absl::Status SetUp(const GemmShape& shape, int32_t rows, const void* bias, Problem& p) {
  const uint64_t n = static_cast<uint64_t>(shape.n);
  const uint64_t k = static_cast<uint64_t>(shape.k);
  const uint64_t m = static_cast<uint64_t>(rows);
  const cudaDataType_t act = DataType(shape.act);
  const cudaDataType_t out = DataType(shape.out_type);
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulDescInit(&p.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(&p.desc, CUBLASLT_MATMUL_DESC_TRANSA,
                                                            &transpose, sizeof(transpose)));
  if (shape.bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
        &p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)));
    BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
        &p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias)));
    BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
        &p.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof(out)));
  }
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatrixLayoutInit(&p.a, act, k, n, shape.k));
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatrixLayoutInit(&p.b, act, k, m, shape.k));
  return ToStatus(cublasLtMatrixLayoutInit(&p.c, out, n, m, shape.n), "layout of y");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gemm>> Gemm::Create(const GemmOptions& options) {
  std::unique_ptr<Gemm> gemm(new Gemm(options));
  BASED_CUDA_RETURN_IF_ERROR(cublasLtCreate(&gemm->handle_));
  BASED_ASSIGN_OR_RETURN(gemm->workspace_,
                         DeviceBuffer::Create(kWorkspaceBytes, "the GEMM workspace"));
  if (options.tune) {
    BASED_ASSIGN_OR_RETURN(gemm->flush_, DeviceBuffer::Create(kFlushBytes, "GEMM timing"));
    for (Timer& timer : gemm->timers_) {
      BASED_ASSIGN_OR_RETURN(timer.start, NewEvent(cudaEventDefault));
      BASED_ASSIGN_OR_RETURN(timer.stop, NewEvent(cudaEventDefault));
    }
  }
  return gemm;
}

Gemm::~Gemm() {
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

absl::StatusOr<std::vector<cublasLtMatmulAlgo_t>> Gemm::Candidates(const GemmShape& shape,
                                                                   int32_t rows, int32_t most) {
  Problem p;
  BASED_RETURN_IF_ERROR(SetUp(shape, rows, workspace_.data(), p));
  cublasLtMatmulPreferenceOpaque_t preference;
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulPreferenceInit(&preference));
  const uint64_t bytes = static_cast<uint64_t>(kWorkspaceBytes);
  BASED_CUDA_RETURN_IF_ERROR(cublasLtMatmulPreferenceSetAttribute(
      &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, &p.desc, &p.a, &p.b, &p.c, &p.c, &preference, most, results.data(), &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    return absl::UnimplementedError(absl::StrCat("cuBLASLt has no algorithm for ", rows, " rows, ",
                                                 shape.n, " by ", shape.k, " weights"));
  }
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < found; ++i) algorithms.push_back(results[static_cast<size_t>(i)].algo);
  return algorithms;
}

absl::StatusOr<cublasLtMatmulAlgo_t> Gemm::Fastest(const GemmShape& shape, const GemmCall& call,
                                                   cudaStream_t stream) {
  BASED_ASSIGN_OR_RETURN(const std::vector<cublasLtMatmulAlgo_t> candidates,
                         Candidates(shape, call.rows, kCandidates));
  float best_ms = std::numeric_limits<float>::max();
  cublasLtMatmulAlgo_t best = candidates[0];
  for (const cublasLtMatmulAlgo_t& candidate : candidates) {
    // The first run loads the kernel; it is not timed.
    if (!Multiply(shape, call, candidate, stream).ok()) continue;
    std::vector<float> times;
    BASED_RETURN_IF_ERROR(Time(shape, call, candidate, 1, stream, times));
    if (times[0] > kHopeless * best_ms) continue;
    BASED_RETURN_IF_ERROR(Time(shape, call, candidate, kTimedRuns - 1, stream, times));
    std::sort(times.begin(), times.end());
    if (times[times.size() / 2] < best_ms) {
      best_ms = times[times.size() / 2];
      best = candidate;
    }
  }
  return best;
}

absl::Status Gemm::Time(const GemmShape& shape, const GemmCall& call,
                        const cublasLtMatmulAlgo_t& algorithm, size_t runs, cudaStream_t stream,
                        std::vector<float>& times) {
  for (size_t i = 0; i < runs; ++i) {
    BASED_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(flush_.data(), 1, kFlushBytes, stream));
    BASED_CUDA_RETURN_IF_ERROR(cudaEventRecord(timers_[i].start.get(), stream));
    BASED_RETURN_IF_ERROR(Multiply(shape, call, algorithm, stream));
    BASED_CUDA_RETURN_IF_ERROR(cudaEventRecord(timers_[i].stop.get(), stream));
  }
  BASED_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(timers_[runs - 1].stop.get()));
  for (size_t i = 0; i < runs; ++i) {
    float ms = 0;
    BASED_CUDA_RETURN_IF_ERROR(
        cudaEventElapsedTime(&ms, timers_[i].start.get(), timers_[i].stop.get()));
    times.push_back(ms);
  }
  return absl::OkStatus();
}

absl::Status Gemm::Prepare(const GemmShape& shape, const std::vector<int32_t>& rows,
                           const GemmCall& call, cudaStream_t stream) {
  Plans& plans = plans_[shape];
  const std::vector<int32_t> counts =
      options_.batch_invariant ? std::vector<int32_t>{kInvariantRows} : rows;
  for (const int32_t count : counts) {
    if (plans.contains(count)) continue;
    GemmCall timed = call;
    timed.rows = count;
    if (options_.tune && !options_.batch_invariant) {
      BASED_ASSIGN_OR_RETURN(plans[count], Fastest(shape, timed, stream));
    } else {
      BASED_ASSIGN_OR_RETURN(const auto candidates, Candidates(shape, count, 1));
      plans[count] = candidates[0];
    }
  }
  return ToStatus(cudaStreamSynchronize(stream), "choosing GEMM algorithms");
}

absl::Status Gemm::Run(const GemmShape& shape, const GemmCall& call, cudaStream_t stream) {
  const auto plans = plans_.find(shape);
  BASED_CHECK(plans != plans_.end() && !plans->second.empty());
  auto plan = plans->second.lower_bound(call.rows);
  if (plan == plans->second.end()) plan = std::prev(plan);
  if (Multiply(shape, call, plan->second, stream).ok()) return absl::OkStatus();
  // The algorithm of more rows does not take these; ask for one that does, once.
  BASED_ASSIGN_OR_RETURN(const auto candidates, Candidates(shape, call.rows, 1));
  plans->second[call.rows] = candidates[0];
  return Multiply(shape, call, candidates[0], stream);
}

absl::Status Gemm::Multiply(const GemmShape& shape, const GemmCall& call,
                            const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream) {
  Problem p;
  BASED_RETURN_IF_ERROR(SetUp(shape, call.rows, call.bias, p));
  const float alpha = 1.0f;
  const float beta = shape.accumulate ? 1.0f : 0.0f;
  const cublasStatus_t status = cublasLtMatmul(
      handle_, &p.desc, &alpha, call.weight, &p.a, call.in, &p.b, &beta, call.out, &p.c, call.out,
      &p.c, &algorithm, workspace_.data(), static_cast<size_t>(kWorkspaceBytes), stream);
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return ToStatus(status, absl::StrCat(call.rows, " rows, ", shape.n, " by ", shape.k, " weights"));
}

}  // namespace based::cuda
