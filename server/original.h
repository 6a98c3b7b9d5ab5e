// A library's function that this program exports in front of it.
//
// gRPC has no place where one could see what it reads or that it is about to write, so
// guarded_reads.cc and connection.cc export the functions that it calls for that.
#ifndef BASED_SERVER_ORIGINAL_H_
#define BASED_SERVER_ORIGINAL_H_

#include <dlfcn.h>

namespace based {

// The next definition of the function `name`, after this program's; `Function` is a pointer type.
template <typename Function>
class Original {
 public:
  explicit Original(const char* name) : next_(reinterpret_cast<Function>(dlsym(RTLD_NEXT, name))) {}

  template <typename... Arguments>
  auto operator()(Arguments... arguments) const {
    return next_(arguments...);
  }

 private:
  const Function next_;
};

}  // namespace based

#endif  // BASED_SERVER_ORIGINAL_H_
