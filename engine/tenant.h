// Who shares the engine, and how much of it each may have.
#ifndef BASED_ENGINE_TENANT_H_
#define BASED_ENGINE_TENANT_H_

#include <cstdint>
#include <string>

namespace based {

// Limits of one tenant; 0 means no limit. The default tenant has the empty name.
struct TenantLimits {
  std::string name;
  double weight = 1;               // share of the tokens when tenants compete; > 0
  double requests_per_second = 0;  // admitted, averaged over a second's burst
  double tokens_per_second = 0;    // prompt and max_tokens of what is admitted, likewise
  int32_t max_concurrent = 0;      // requests queued or running
};

// What a tenant has had since it was first set, and has now.
struct TenantUse {
  std::string name;
  int32_t active = 0;  // requests queued or running
  int64_t admitted = 0;
  int64_t refused = 0;  // by limits, the queue's or the tenant's
  int64_t tokens = 0;   // computed for it, prompt and output
};

}  // namespace based

#endif  // BASED_ENGINE_TENANT_H_
