#include "kernels/cuda/taylor_state.cuh"
namespace based::cuda {
bool TaylorPrefillSupports(const TaylorParams&) { return false; }
cudaError_t TaylorPrefill(const TaylorParams&, cudaStream_t) { return cudaErrorInvalidValue; }
}  // namespace based::cuda
