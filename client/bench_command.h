// based bench: load on a daemon, and how it bore it.
#ifndef BASED_CLIENT_BENCH_COMMAND_H_
#define BASED_CLIENT_BENCH_COMMAND_H_

#include "client/command.h"

namespace based {

Command BenchCommand();

}  // namespace based

#endif  // BASED_CLIENT_BENCH_COMMAND_H_
