// Which highway targets the CPU kernels are compiled for: all with vectors of a fixed size, since
// the register-blocked kernels keep vectors in arrays. Include before any highway header.
#ifndef BASED_KERNELS_CPU_TARGETS_H_
#define BASED_KERNELS_CPU_TARGETS_H_

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#endif  // BASED_KERNELS_CPU_TARGETS_H_
