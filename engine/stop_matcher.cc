#include "engine/stop_matcher.h"

#include <utility>

namespace based {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) : stops_(stops), nodes_(1) {
  for (size_t i = 0; i < stops_.size(); ++i) {
    if (!stops_[i].empty()) Insert(static_cast<int32_t>(i));
  }
  LinkFallbacks();
}

int32_t StopMatcher::Child(int32_t node, char byte) const {
  for (const auto& [label, child] : nodes_[node].children) {
    if (label == byte) return child;
  }
  return -1;
}

void StopMatcher::Insert(int32_t stop) {
  int32_t node = 0;
  for (const char byte : stops_[stop]) {
    int32_t child = Child(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, child);
      nodes_.push_back({.children = {}, .depth = nodes_[node].depth + 1});
    }
    node = child;
  }
  nodes_[node].stop = stop;
}

// Breadth first, so that the fallback of a node, which is shallower, is linked before it.
void StopMatcher::LinkFallbacks() {
  std::vector<int32_t> order = {0};
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t node = order[i];
    for (const auto& [byte, child] : nodes_[node].children) {
      if (node != 0) nodes_[child].fallback = Step(nodes_[node].fallback, byte);
      // A stop string of its own is longer than any that ends in its fallback.
      if (nodes_[child].stop < 0) nodes_[child].stop = nodes_[nodes_[child].fallback].stop;
      order.push_back(child);
    }
  }
}

int32_t StopMatcher::Step(int32_t node, char byte) const {
  for (;;) {
    if (const int32_t child = Child(node, byte); child >= 0) return child;
    if (node == 0) return 0;
    node = nodes_[node].fallback;
  }
}

StopMatcher::Emit StopMatcher::Push(std::string_view text) {
  if (matched_) return {};
  std::string pending = std::exchange(held_, {});
  for (const char byte : text) {
    pending.push_back(byte);
    state_ = Step(state_, byte);
    if (const int32_t stop = nodes_[state_].stop; stop >= 0) {
      matched_ = true;
      pending.resize(pending.size() - stops_[stop].size());
      return {std::move(pending), stops_[stop]};
    }
  }
  const size_t safe = pending.size() - nodes_[state_].depth;
  held_ = pending.substr(safe);
  pending.resize(safe);
  return {std::move(pending), std::nullopt};
}

std::string StopMatcher::Finish() {
  matched_ = true;
  return std::exchange(held_, {});
}

}  // namespace based
