#include "server/debug_view.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string Escaped(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

void AppendRow(std::string& html, absl::string_view cell, const std::vector<std::string>& values) {
  html += "<tr>";
  for (const std::string& value : values) {
    absl::StrAppend(&html, "<", cell, ">", Escaped(value), "</", cell, ">");
  }
  html += "</tr>\n";
}

std::string RequestsTable(const DebugView& view) {
  std::string html = "<table>\n";
  AppendRow(html, "th",
            {"request", "tenant", "phase", "slot", "position", "prompt", "generated", "age, s"});
  for (const LiveRequest& request : view.requests) {
    AppendRow(html, "td",
              {request.request_id, request.tenant, std::string(request.phase),
               absl::StrJoin(request.slots, ", "), absl::StrCat(request.position),
               absl::StrCat(request.prompt_tokens), absl::StrCat(request.generated_tokens),
               absl::StrFormat("%.3f", Seconds(request.age))});
  }
  return html + "</table>\n";
}

std::string EndedTable(const DebugView& view) {
  std::string html = "<table>\n";
  AppendRow(html, "th",
            {"request", "tenant", "outcome", "prompt", "generated", "first token, s", "total, s"});
  for (const EndedRequest& request : view.ended) {
    AppendRow(html, "td",
              {request.request_id, request.tenant, request.outcome,
               absl::StrCat(request.prompt_tokens), absl::StrCat(request.generated_tokens),
               absl::StrFormat("%.3f", Seconds(request.first_token)),
               absl::StrFormat("%.3f", Seconds(request.total))});
  }
  return html + "</table>\n";
}

std::string ProfileTable(const ProfileSummary& profile) {
  std::string html = "<table>\n";
  AppendRow(html, "th", {"phase", "mean, us", "p50", "p99", "max"});
  for (const PhaseSummary& phase : profile.phases) {
    AppendRow(html, "td",
              {std::string(phase.phase), absl::StrFormat("%.1f", phase.mean_us),
               absl::StrFormat("%.1f", phase.p50_us), absl::StrFormat("%.1f", phase.p99_us),
               absl::StrFormat("%.1f", phase.max_us)});
  }
  return html + "</table>\n";
}

Json RequestJson(const LiveRequest& request) {
  return {{"request_id", request.request_id},
          {"tenant", request.tenant},
          {"phase", std::string(request.phase)},
          {"slots", request.slots},
          {"position", request.position},
          {"prompt_tokens", request.prompt_tokens},
          {"generated_tokens", request.generated_tokens},
          {"age_s", Seconds(request.age)}};
}

Json EndedJson(const EndedRequest& request) {
  return {{"request_id", request.request_id},
          {"tenant", request.tenant},
          {"outcome", request.outcome},
          {"prompt_tokens", request.prompt_tokens},
          {"generated_tokens", request.generated_tokens},
          {"first_token_s", Seconds(request.first_token)},
          {"total_s", Seconds(request.total)},
          {"ago_s", Seconds(request.ago)}};
}

Json ProfileJson(const ProfileSummary& profile) {
  Json phases = Json::object();
  for (const PhaseSummary& phase : profile.phases) {
    phases[std::string(phase.phase)] = {{"mean_us", phase.mean_us},
                                        {"p50_us", phase.p50_us},
                                        {"p99_us", phase.p99_us},
                                        {"max_us", phase.max_us}};
  }
  return {{"steps", profile.steps},
          {"seconds", profile.seconds},
          {"decode_tokens", profile.decode_tokens},
          {"prefill_tokens", profile.prefill_tokens},
          {"sequences", profile.sequences},
          {"phases", std::move(phases)}};
}

}  // namespace

absl::string_view StateName(DebugView::State state) {
  switch (state) {
    case DebugView::State::kLoading:
      return "loading";
    case DebugView::State::kReady:
      return "ready";
    case DebugView::State::kDraining:
      return "draining";
    case DebugView::State::kFailed:
      return "failed";
  }
  return "";
}

std::string DebugJson(const DebugView& view, size_t most_requests) {
  Json requests = Json::array();
  const size_t live = view.requests.size();
  for (size_t i = live - std::min(live, most_requests); i < live; ++i) {
    requests.push_back(RequestJson(view.requests[i]));
  }
  Json ended = Json::array();
  for (const EndedRequest& request : view.ended) ended.push_back(EndedJson(request));
  const Json json = {
      {"state", std::string(StateName(view.state))},
      {"uptime_s", view.uptime_s},
      {"model", view.model},
      {"slots",
       {{"total", view.capacity.slots_total},
        {"active", view.capacity.slots_active},
        {"free", view.capacity.slots_free},
        {"parked", view.capacity.parked}}},
      {"full_tokens_per_second", view.full_tokens_per_second},
      {"queue", {{"length", view.capacity.queued_requests}, {"most", view.capacity.max_queue}}},
      {"live", live},
      {"requests", std::move(requests)},
      {"ended", std::move(ended)},
      {"steps", ProfileJson(view.profile)}};
  return json.dump(1, ' ', true, Json::error_handler_t::replace) + "\n";
}

std::string DebugHtml(const DebugView& view) {
  return absl::StrCat(
      "<!doctype html><meta charset=\"utf-8\"><title>based-server: debug</title>\n"
      "<style>body{font:14px sans-serif}table{border-collapse:collapse}"
      "td,th{border:1px solid #bbb;padding:2px 8px;text-align:left}</style>\n<h1>",
      Escaped(view.model), ": ", StateName(view.state), "</h1>\n<p>Up ",
      absl::StrFormat("%.0f s. Slots: %d of %d active. Queue: %d of %d.", view.uptime_s,
                      view.capacity.slots_active, view.capacity.slots_total,
                      view.capacity.queued_requests, view.capacity.max_queue),
      " <a href=\"/debug.json\">JSON</a></p>\n<h2>Requests</h2>\n", RequestsTable(view),
      "<h2>Ended</h2>\n", EndedTable(view), "<h2>Steps</h2>\n<p>",
      absl::StrFormat("%d steps in %.1f s; per step %.1f decode and %.1f prefill tokens of %.1f "
                      "sequences.",
                      view.profile.steps, view.profile.seconds, view.profile.decode_tokens,
                      view.profile.prefill_tokens, view.profile.sequences),
      "</p>\n", ProfileTable(view.profile));
}

}  // namespace based
