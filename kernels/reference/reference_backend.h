// The executable specification of program.h, sampling.h and backend.h: weights, state, activations
// and logits in fp64, one op after another, one token after another, no cleverness. The other
// backends are compared with it. One thread; Launch computes before it returns.
#ifndef BASED_KERNELS_REFERENCE_REFERENCE_BACKEND_H_
#define BASED_KERNELS_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include "kernels/backend.h"

namespace based {

std::unique_ptr<Backend> NewReferenceBackend();

}  // namespace based

#endif  // BASED_KERNELS_REFERENCE_REFERENCE_BACKEND_H_
