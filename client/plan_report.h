// A capacity plan as a table, as JSON, and as one HTML page with plots that fetches nothing.
#ifndef BASED_CLIENT_PLAN_REPORT_H_
#define BASED_CLIENT_PLAN_REPORT_H_

#include <string>
#include <vector>

#include "client/plan_cost.h"
#include "client/plan_machine.h"
#include "client/plan_model.h"
#include "nlohmann/json.hpp"

namespace based {

struct PlanPoint {
  double streams = 0;
  LoadPrediction based;
  KvEquivalent kv;  // decoding alone, without prompts
};

struct PlanReport {
  PlanModel model;
  PlanMachine machine;
  CapacityPlan capacity;
  PlanLoad load;
  double context = 0;  // tokens of a sequence, for the KV cache
  double prefill_tokens_per_second = 0;
  StepPrediction step;  // of the load
  LoadPrediction at_load;
  KvEquivalent kv;
  std::vector<PlanPoint> points;  // 1, 2, 4, ... streams, at most as many as there are slots
};

// `load.streams` of 0: as many as there are slots. Of more the figures are those of all slots in
// use.
PlanReport MakePlan(PlanModel model, PlanMachine machine, PlanLoad load, double context);

std::string PlanText(const PlanReport& plan);
nlohmann::ordered_json PlanJson(const PlanReport& plan);
std::string PlanPage(const PlanReport& plan);

}  // namespace based

#endif  // BASED_CLIENT_PLAN_REPORT_H_
