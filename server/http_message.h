// An HTTP/1.1 request and its answer as handlers see them: no sockets, no library.
#ifndef BASED_SERVER_HTTP_MESSAGE_H_
#define BASED_SERVER_HTTP_MESSAGE_H_

#include <string>
#include <string_view>
#include <vector>

namespace based {

struct HttpHeader {
  std::string name;  // lower case in requests
  std::string value;
};

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // the target without its query
  std::vector<HttpHeader> headers;
  std::string body;
  std::string peer;       // "127.0.0.1:4711"
  bool chunked = true;    // the peer understands chunked answers (HTTP/1.1)
  bool keep_alive = true;

  // The first header of this name (lower case), or "".
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<HttpHeader> headers;
  std::string body;
};

// How the length of an answer's body is told.
enum class HttpFraming { kContentLength, kChunked, kUntilClose };

// Status line and headers, the empty line included. `keep_alive` false says that the connection
// will be closed. Values are ours or checked: no line breaks.
std::string RenderHttpHead(const HttpResponse& response, HttpFraming framing, bool keep_alive);

}  // namespace based

#endif  // BASED_SERVER_HTTP_MESSAGE_H_
