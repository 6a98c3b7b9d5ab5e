// Loaded into a daemon with LD_PRELOAD: at SIGUSR2 the device meets a fault (trap.h).
#include <csignal>
#include <cstdio>
#include <thread>

#include "tests/kernels/cuda/trap.h"

namespace {

// Before main, so that every thread of the program inherits the blocked signal.
[[gnu::constructor]] void WaitForSignal() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int signal = 0;
    ::sigwait(&signals, &signal);
    std::fprintf(stderr, "trap: %s\n", cudaGetErrorName(based::RunTrap()));
  }).detach();
}

}  // namespace
