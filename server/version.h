// Version of the daemon, from the project's one place: CMakeLists.txt.
#ifndef BASED_SERVER_VERSION_H_
#define BASED_SERVER_VERSION_H_

namespace based {

inline constexpr char kVersion[] = BASED_VERSION;

}  // namespace based

#endif  // BASED_SERVER_VERSION_H_
