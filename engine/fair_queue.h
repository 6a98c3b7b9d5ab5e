// Requests that wait for a slot, and whose turn it is. Pure: no clock, no thread.
//
// Start-time fair queueing (Goyal, Vin and Cheng, 1996) over tenants by the tokens that requests
// may take: every tenant has a start tag in virtual time, the smallest is next, and taking a
// request moves its tenant's tag by cost / weight. So tenants that always have something waiting
// get tokens in proportion to their weights, but for one request each; a tenant that comes back
// starts at the virtual time of that moment, less what it may save up (burst_tokens), and passes
// those that have much waiting. Within a tenant and a class requests go in order of arrival.
//
// Two classes with a virtual time each: interactive before batch. A batch request that has waited
// for too long is moved to the interactive ones (Age).
#ifndef BASED_ENGINE_FAIR_QUEUE_H_
#define BASED_ENGINE_FAIR_QUEUE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <set>
#include <tuple>
#include <vector>

#include "engine/load.h"
#include "engine/request.h"

namespace based {

class FairQueue {
 public:
  struct Entry {
    RequestId id = 0;
    int32_t tenant = 0;  // index, from 0
    double weight = 1;   // of the tenant, from now on
    QueueLoad load;      // of this request
    Clock::time_point since;
    uint64_t order = 0;  // of arrival; set by Push
    bool aged = false;   // set by Age
  };

  // `burst_tokens`: what a tenant that asked for nothing may be ahead of its share later.
  explicit FairQueue(int64_t burst_tokens) : burst_(static_cast<double>(burst_tokens)) {}

  void Push(Entry entry, bool batch);
  const Entry* Front(bool batch) const;  // null: nothing waits in this class
  // The front's tenant has been served less than those before it. REQUIRES: Front is not null.
  bool FrontIsBehind(bool batch) const;
  Entry Pop(bool batch);  // REQUIRES: Front is not null
  void Erase(RequestId id, int32_t tenant);

  // Batch requests that wait since `before` or longer become interactive, in their order of
  // arrival.
  void Age(Clock::time_point before);

  // `tokens` that Pop has charged to the tenant were not taken.
  void Refund(int32_t tenant, bool batch, int64_t tokens);

  int32_t size() const { return size_; }
  // Tells what waits, per tenant and one sequence of load.every by itself.
  void AddTo(EngineLoad& load) const;

 private:
  struct Flow {
    std::deque<Entry> entries;
    double weight = 1;
    double start = 0;  // tag of the front; without entries: of the next at least
    QueueLoad load;
  };
  using Key = std::tuple<double, uint64_t, int32_t>;  // start, order, tenant
  struct Class {
    std::vector<Flow> flows;  // by tenant
    std::set<Key> fronts;     // of the flows with entries
    double now = 0;           // virtual time: the largest start that was served

    Flow& FlowOf(int32_t tenant);
    Key KeyOf(int32_t tenant) const;
  };

  static void AddFlow(const Flow& flow, bool batch, EngineLoad& load);
  const Class& Of(bool batch) const { return classes_[batch ? 1 : 0]; }
  Class& Of(bool batch) { return classes_[batch ? 1 : 0]; }
  void Insert(Entry entry, bool batch);
  Entry Remove(Class& from, int32_t tenant, size_t at);

  const double burst_;
  std::array<Class, 2> classes_;
  uint64_t pushed_ = 0;
  int32_t size_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_FAIR_QUEUE_H_
