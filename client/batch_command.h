// based batch: the lines of a file through a daemon, to a file.
#ifndef BASED_CLIENT_BATCH_COMMAND_H_
#define BASED_CLIENT_BATCH_COMMAND_H_

#include "client/command.h"

namespace based {

Command BatchCommand();

}  // namespace based

#endif  // BASED_CLIENT_BATCH_COMMAND_H_
