// based jobs: batch jobs that the daemon runs by itself; see batch.proto.
#ifndef BASED_CLIENT_JOBS_COMMAND_H_
#define BASED_CLIENT_JOBS_COMMAND_H_

#include "client/command.h"

namespace based {

Command JobsCommand();

}  // namespace based

#endif  // BASED_CLIENT_JOBS_COMMAND_H_
