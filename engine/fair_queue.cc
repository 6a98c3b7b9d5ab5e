#include "engine/fair_queue.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace based {

FairQueue::Flow& FairQueue::Class::FlowOf(int32_t tenant) {
  const auto index = static_cast<size_t>(tenant);
  if (flows.size() <= index) flows.resize(index + 1);
  return flows[index];
}

FairQueue::Key FairQueue::Class::KeyOf(int32_t tenant) const {
  const Flow& flow = flows[static_cast<size_t>(tenant)];
  return {flow.start, flow.entries.front().order, tenant};
}

void FairQueue::Push(Entry entry, bool batch) {
  BASED_CHECK(entry.weight > 0);
  entry.order = ++pushed_;
  Insert(std::move(entry), batch);
}

// By order of arrival, which is the end but for what has aged.
void FairQueue::Insert(Entry entry, bool batch) {
  Class& own = Of(batch);
  const int32_t tenant = entry.tenant;
  Flow& flow = own.FlowOf(tenant);
  flow.weight = entry.weight;
  if (flow.entries.empty()) {
    flow.start = std::max(own.now - burst_ / flow.weight, flow.start);
  } else {
    own.fronts.erase(own.KeyOf(tenant));
  }
  flow.load += entry.load;
  auto at = flow.entries.end();
  while (at != flow.entries.begin() && std::prev(at)->order > entry.order) --at;
  flow.entries.insert(at, std::move(entry));
  own.fronts.insert(own.KeyOf(tenant));
  ++size_;
}

const FairQueue::Entry* FairQueue::Front(bool batch) const {
  const Class& own = Of(batch);
  if (own.fronts.empty()) return nullptr;
  const int32_t tenant = std::get<2>(*own.fronts.begin());
  return &own.flows[static_cast<size_t>(tenant)].entries.front();
}

bool FairQueue::FrontIsBehind(bool batch) const {
  const Class& own = Of(batch);
  return std::get<0>(*own.fronts.begin()) < own.now;
}

FairQueue::Entry FairQueue::Pop(bool batch) {
  Class& own = Of(batch);
  BASED_CHECK(!own.fronts.empty());
  const auto [start, order, tenant] = *own.fronts.begin();
  own.now = std::max(own.now, start);
  Flow& flow = own.FlowOf(tenant);
  own.fronts.erase(own.fronts.begin());
  Entry entry = std::move(flow.entries.front());
  flow.entries.pop_front();
  flow.load -= entry.load;
  flow.start += static_cast<double>(entry.load.tokens()) / flow.weight;
  if (!flow.entries.empty()) own.fronts.insert(own.KeyOf(tenant));
  --size_;
  return entry;
}

FairQueue::Entry FairQueue::Remove(Class& from, int32_t tenant, size_t at) {
  Flow& flow = from.FlowOf(tenant);
  if (at == 0) from.fronts.erase(from.KeyOf(tenant));
  const auto position = flow.entries.begin() + static_cast<std::ptrdiff_t>(at);
  Entry entry = std::move(*position);
  flow.entries.erase(position);
  flow.load -= entry.load;
  if (at == 0 && !flow.entries.empty()) from.fronts.insert(from.KeyOf(tenant));
  --size_;
  return entry;
}

void FairQueue::Erase(RequestId id, int32_t tenant) {
  for (Class& own : classes_) {
    const std::deque<Entry>& entries = own.FlowOf(tenant).entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].id != id) continue;
      Remove(own, tenant, i);
      return;
    }
  }
}

void FairQueue::Age(Clock::time_point before) {
  Class& batch = Of(true);
  if (batch.fronts.empty()) return;
  for (size_t i = 0; i < batch.flows.size(); ++i) {
    const auto tenant = static_cast<int32_t>(i);
    const std::deque<Entry>& entries = batch.flows[i].entries;
    while (!entries.empty() && entries.front().since <= before) {
      Entry entry = Remove(batch, tenant, 0);
      entry.aged = true;
      Insert(std::move(entry), /*batch=*/false);
    }
  }
}

void FairQueue::Refund(int32_t tenant, bool batch, int64_t tokens) {
  Class& own = Of(batch);
  Flow& flow = own.FlowOf(tenant);
  if (!flow.entries.empty()) own.fronts.erase(own.KeyOf(tenant));
  flow.start -= static_cast<double>(tokens) / flow.weight;
  if (!flow.entries.empty()) own.fronts.insert(own.KeyOf(tenant));
}

void FairQueue::AddTo(std::vector<TenantLoad>& tenants) const {
  for (const bool batch : {false, true}) {
    const std::vector<Flow>& flows = Of(batch).flows;
    if (tenants.size() < flows.size()) tenants.resize(flows.size());
    for (size_t i = 0; i < flows.size(); ++i) {
      if (flows[i].entries.empty()) continue;
      tenants[i].weight = flows[i].weight;
      (batch ? tenants[i].batch : tenants[i].interactive) += flows[i].load;
    }
  }
}

}  // namespace based
