#include "server/http_message.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace based {
namespace {

absl::string_view ReasonOf(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Payload Too Large";
    case 415: return "Unsupported Media Type";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Status";
  }
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const HttpHeader& header : headers) {
    if (header.name == name) return header.value;
  }
  return "";
}

std::string RenderHttpHead(const HttpResponse& response, HttpFraming framing, bool keep_alive) {
  std::string head = absl::StrCat("HTTP/1.1 ", response.status, " ", ReasonOf(response.status),
                                  "\r\nserver: based-server\r\n");
  if (response.status != 204) {
    absl::StrAppend(&head, "content-type: ", response.content_type, "\r\n");
    if (framing == HttpFraming::kContentLength) {
      absl::StrAppend(&head, "content-length: ", response.body.size(), "\r\n");
    } else if (framing == HttpFraming::kChunked) {
      absl::StrAppend(&head, "transfer-encoding: chunked\r\n");
    }
  }
  for (const HttpHeader& header : response.headers) {
    absl::StrAppend(&head, header.name, ": ", header.value, "\r\n");
  }
  absl::StrAppend(&head, keep_alive ? "" : "connection: close\r\n", "\r\n");
  return head;
}

}  // namespace based
