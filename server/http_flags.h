// Flags of the HTTP API.
#ifndef BASED_SERVER_HTTP_FLAGS_H_
#define BASED_SERVER_HTTP_FLAGS_H_

#include "absl/status/status.h"
#include "kernels/base/command_line.h"
#include "server/http_api.h"
#include "server/server.h"

namespace based {

// Fills `http`; limits of streams are those of gRPC, which `server` holds already. INVALID_ARGUMENT
// in one line.
absl::Status ReadHttpFlags(const ServerOptions& server, HttpApiOptions& http);

FlagGroup HttpFlags();

}  // namespace based

#endif  // BASED_SERVER_HTTP_FLAGS_H_
