// How texts that are scored start from each other.
#include <algorithm>
#include <memory>
#include <utility>

#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace based {
namespace {

using Continuations = std::vector<Continuation>;

const Continuation& At(const Continuations& all, int32_t index) {
  return all[static_cast<size_t>(index)];
}

// The tokens of the text of continuation `index` from `begin` on. REQUIRES: `begin` is where it, or
// one that it goes back to, begins to share nothing with the text that it starts from.
std::vector<int32_t> TextFrom(const Continuations& all, int32_t index, int64_t begin) {
  const Continuation& own = At(all, index);
  if (own.shared <= begin) return own.ids;
  std::vector<int32_t> ids = TextFrom(all, own.parent, begin);
  ids.resize(static_cast<size_t>(own.shared - begin));
  ids.insert(ids.end(), own.ids.begin(), own.ids.end());
  return ids;
}

}  // namespace

void SetContinuations(std::vector<Continuation> continuations, SequenceSpec& spec) {
  const auto prompt_tokens = static_cast<int64_t>(spec.prompt.size());
  for (Continuation& continuation : continuations) {
    if (continuation.shared == 0) continuation.shared = prompt_tokens;
  }
  continuations.front().shared = 0;
  spec.score_from = prompt_tokens + continuations.front().unscored;
  spec.max_tokens = 0;
  spec.continuations = std::make_shared<const std::vector<Continuation>>(std::move(continuations));
}

std::vector<Scheduler::Sequence::Fork> Scheduler::Sequence::ForksOfOwn() const {
  std::vector<Fork> own;
  const Continuations& all = *spec.continuations;
  for (int32_t i = index + 1; i < static_cast<int32_t>(all.size()); ++i) {
    if (At(all, i).parent == index) own.push_back({.index = i, .shared = At(all, i).shared});
  }
  std::stable_sort(own.begin(), own.end(),
                   [](const Fork& a, const Fork& b) { return a.shared < b.shared; });
  return own;
}

void Scheduler::Sequence::BeginContinuations() {
  index = 0;
  const std::vector<int32_t>& own = spec.continuations->front().ids;
  spec.prompt.insert(spec.prompt.end(), own.begin(), own.end());
  forks = ForksOfOwn();
  forks_left = static_cast<int32_t>(forks.size());
}

int64_t Scheduler::Sequence::UnfedContinuations() const {
  const Continuations& all = *spec.continuations;
  std::vector<bool> to_start(all.size(), false);
  for (const Fork& fork : forks) to_start[static_cast<size_t>(fork.index)] = true;
  int64_t tokens = unfed();
  // The token before its own, and what it computes again, belong to another.
  if (index > 0) tokens = std::min(tokens, static_cast<int64_t>(At(all, index).ids.size()));
  for (size_t i = 1; i < all.size(); ++i) {
    to_start[i] = to_start[i] || to_start[static_cast<size_t>(all[i].parent)];
    if (to_start[i]) tokens += static_cast<int64_t>(all[i].ids.size());
  }
  return tokens;
}

// Makes `fork` the next continuation that starts from `source`.
void Scheduler::StartContinuation(Sequence& source, Sequence& fork) {
  const Sequence::Fork start = source.forks.front();
  source.forks.erase(source.forks.begin());
  fork.index = start.index;
  fork.spec.continuations = source.spec.continuations;
  const Continuations& all = *fork.spec.continuations;
  const Continuation& own = At(all, fork.index);
  fork.spec.score_from = own.shared + own.unscored;
  const std::vector<int32_t> ids = TextFrom(all, fork.index, start.shared);
  fork.spec.prompt.insert(fork.spec.prompt.end(), ids.begin(), ids.end());

  std::vector<Sequence::Fork> forks = fork.ForksOfOwn();
  if (forks.empty()) return;
  if (MayBecomeSource(source.yields)) {
    ++pending_sources_;
    fork.forks_left = static_cast<int32_t>(forks.size());
    fork.forks = std::move(forks);
    return;
  }
  for (Sequence::Fork& own_fork : forks) own_fork.shared = start.shared;
  source.forks_left += static_cast<int32_t>(forks.size());
  source.forks.insert(source.forks.begin(), forks.begin(), forks.end());
}

}  // namespace based
