// based generate: streams completions to the terminal, from a daemon or the engine in this process.
#ifndef BASED_CLIENT_GENERATE_COMMAND_H_
#define BASED_CLIENT_GENERATE_COMMAND_H_

#include <functional>

#include "absl/status/status.h"
#include "client/command.h"
#include "client/generate_event.h"
#include "client/generate_options.h"

namespace based {

// Generates what the options ask for and hands over its events in order; returns how it ended.
using Generator = std::function<absl::Status(const GenerateOptions& options,
                                             const std::function<void(GenerateEvent)>& on_event)>;

// `here` is for --local.
Command GenerateCommand(Generator daemon, Generator here);

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_COMMAND_H_
