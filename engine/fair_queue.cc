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

void FairQueue::AddTo(EngineLoad& load) const {
  load.burst_tokens = burst_;
  for (const bool batch : {false, true}) {
    const Class& own = Of(batch);
    load.now[batch ? 1 : 0] = own.now;
    if (load.tenants.size() < own.flows.size()) load.tenants.resize(own.flows.size());
    for (size_t i = 0; i < own.flows.size(); ++i) {
      const Flow& flow = own.flows[i];
      TenantLoad& tenant = load.tenants[i];
      const auto waits = static_cast<double>(flow.load.tokens());
      tenant.turns[batch ? 1 : 0] = flow.start + waits / flow.weight;
      if (flow.entries.empty()) continue;
      tenant.weight = flow.weight;
      (batch ? tenant.batch : tenant.interactive) += flow.load;
      AddFlow(flow, batch, load);
    }
  }
}

// Where not all are told, their turns are as if all were alike.
void FairQueue::AddFlow(const Flow& flow, bool batch, EngineLoad& load) {
  const auto entries = static_cast<int32_t>(flow.entries.size());
  const double each = static_cast<double>(flow.load.tokens()) / flow.weight / entries;
  double turn = flow.start;
  const int32_t skip = (load.every - load.waiting_requests % load.every) % load.every;
  for (int32_t i = skip; i < entries; i += load.every) {
    const QueueLoad& own = flow.entries[static_cast<size_t>(i)].load;
    const int32_t completions = std::max(1, own.completions);
    load.waiting.push_back({.prompt_tokens = own.prompt_tokens,
                            .output_tokens = own.output_tokens / completions,
                            .completions = completions,
                            .batch = batch,
                            .turn = load.every == 1 ? turn : flow.start + each * i});
    turn += static_cast<double>(own.tokens()) / flow.weight;
  }
  load.waiting_requests += entries;
}

}  // namespace based
