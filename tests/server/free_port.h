// A port for a daemon whose port the test must know before it runs.
#ifndef BASED_TESTS_SERVER_FREE_PORT_H_
#define BASED_TESTS_SERVER_FREE_PORT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace based {

// A port that was free a moment ago.
inline int FreePort() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
  ::close(listener);
  return ntohs(address.sin_port);
}

}  // namespace based

#endif  // BASED_TESTS_SERVER_FREE_PORT_H_
