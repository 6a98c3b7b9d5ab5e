// based session: what conversations the daemon keeps; copies and deletes them.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "based/v1/session.grpc.pb.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Stub = v1::SessionService::Stub;

template <typename Request, typename Response>
absl::Status Call(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Response& response) {
  grpc::ClientContext context;
  SetDeadline(context);
  return FromGrpc((stub.*method)(&context, request, &response));
}

void Print(const v1::Session& session) {
  if (absl::GetFlag(FLAGS_json)) {
    std::printf("%s\n", ToJson(session).c_str());
    return;
  }
  absl::PrintF("%-32s %10d tokens %8.2f MiB  idle %.0f s%s\n", session.id(), session.tokens(),
               static_cast<double>(session.bytes()) / (1 << 20),
               static_cast<double>(session.idle_ms()) / 1000, session.busy() ? ", in use" : "");
}

absl::Status List(Stub& stub) {
  v1::ListSessionsRequest request;
  request.set_tenant(absl::GetFlag(FLAGS_tenant));
  while (true) {
    v1::ListSessionsResponse response;
    BASED_RETURN_IF_ERROR(Call(stub, &Stub::ListSessions, request, response));
    for (const v1::Session& session : response.sessions()) Print(session);
    if (response.next_page_token().empty()) return absl::OkStatus();
    request.set_page_token(response.next_page_token());
  }
}

absl::Status Show(Stub& stub, const std::string& id) {
  v1::GetSessionRequest request;
  request.set_tenant(absl::GetFlag(FLAGS_tenant));
  request.set_id(id);
  v1::Session session;
  BASED_RETURN_IF_ERROR(Call(stub, &Stub::GetSession, request, session));
  Print(session);
  return absl::OkStatus();
}

absl::Status Fork(Stub& stub, const std::string& id, const std::string& new_id) {
  v1::ForkSessionRequest request;
  request.set_tenant(absl::GetFlag(FLAGS_tenant));
  request.set_id(id);
  request.set_new_id(new_id);
  v1::Session session;
  BASED_RETURN_IF_ERROR(Call(stub, &Stub::ForkSession, request, session));
  Print(session);
  return absl::OkStatus();
}

absl::Status Delete(Stub& stub, const std::string& id) {
  v1::DeleteSessionRequest request;
  request.set_tenant(absl::GetFlag(FLAGS_tenant));
  request.set_id(id);
  v1::DeleteSessionResponse response;
  return Call(stub, &Stub::DeleteSession, request, response);
}

absl::Status Run(const CommandLine& line) {
  const std::vector<std::string>& words = line.positional;
  const std::string verb = words.empty() ? "" : words[0];
  const size_t wanted = verb == "list" ? 1 : verb == "fork" ? 3 : 2;
  const bool known = verb == "list" || verb == "show" || verb == "fork" || verb == "delete";
  if (!known || words.size() != wanted) {
    return UsageError("expected: list, show ID, fork ID NEW_ID or delete ID");
  }
  const auto stub = v1::SessionService::NewStub(DaemonChannel());
  if (verb == "list") return List(*stub);
  if (verb == "show") return Show(*stub, words[1]);
  return verb == "fork" ? Fork(*stub, words[1], words[2]) : Delete(*stub, words[1]);
}

}  // namespace

Command SessionCommand() {
  return {.name = "session",
          .summary = "Lists, forks and deletes the conversations that the daemon keeps.",
          .examples =
              "  based generate --session chat --create_session --prompt \"Once upon a time\"\n"
              "  based session list\n"
              "  based session fork chat chat-2\n",
          .flags = {{"Session", {"tenant", "json"}}, kDaemonFlags},
          .run = Run};
}

}  // namespace based
