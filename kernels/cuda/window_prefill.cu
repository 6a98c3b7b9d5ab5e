#include "kernels/cuda/window_ring.cuh"
namespace based::cuda {
bool WindowPrefillSupports(const WindowParams&) { return false; }
cudaError_t WindowPrefill(const WindowParams&, int32_t, cudaStream_t) { return cudaErrorInvalidValue; }
}  // namespace based::cuda
