// Places for calls that last: so many for all tenants together, and so many for each, so that none
// can take them all. Thread-safe.
#ifndef BASED_SERVER_CALL_PLACES_H_
#define BASED_SERVER_CALL_PLACES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"

namespace based {

class CallPlaces {
 public:
  // `what` is for messages: "calls that ...".
  CallPlaces(std::string what, int32_t most, int32_t most_of_tenant);

  // A place, held until the pointer goes, which may outlive this. RESOURCE_EXHAUSTED with a Refusal
  // when none is free.
  absl::StatusOr<std::shared_ptr<void>> Take(const std::string& tenant);

 private:
  struct Taken {
    Mutex mutex;
    std::map<std::string, int32_t> of_tenant ABSL_GUARDED_BY(mutex);
    int32_t all ABSL_GUARDED_BY(mutex) = 0;
  };

  const std::string what_;
  const int32_t most_;
  const int32_t most_of_tenant_;
  const std::shared_ptr<Taken> taken_ = std::make_shared<Taken>();
};

}  // namespace based

#endif  // BASED_SERVER_CALL_PLACES_H_
