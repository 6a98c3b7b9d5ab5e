// Lets a HeaderGuard see what gRPC reads. gRPC (1.51) has no place for that, so this program
// exports functions that libgrpc reads with, in front of the originals: `recvmsg` of the C library,
// and of OpenSSL `SSL_read`, and `SSL_write` to know when the server has spoken. They do what those
// do, until a guard's limit is passed: gRPC then reads the end of the connection, or an error of
// TLS, and closes it. Thread-safe.
#ifndef BASED_SERVER_GUARDED_READS_H_
#define BASED_SERVER_GUARDED_READS_H_

#include <cstddef>

namespace based {

// What is read from the socket `fd` without TLS, from now on. Whatever has its number once it is
// closed is not guarded.
void GuardReads(int fd, size_t most_header_bytes);

// What is read from any connection by TLS to this process that nothing was read from yet.
void GuardTlsReads(size_t most_header_bytes);

}  // namespace based

#endif  // BASED_SERVER_GUARDED_READS_H_
