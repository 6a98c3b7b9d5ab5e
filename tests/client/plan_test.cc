// The capacity planner: its arithmetic against the backends' own layout and against measured runs,
// its command line, and its page.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/plan_command.h"
#include "client/plan_cost.h"
#include "client/plan_model.h"
#include "client/plan_report.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"

namespace based {
namespace {

using testing::HasSubstr;

const char kDemo[] = BASED_SOURCE_DIR "/models/demo";
const char kTiny[] = BASED_SOURCE_DIR "/tests/golden/tiny-a";
constexpr double kTolerance = 0.15;

PlanModel Load(const std::string& model, const PlanDials& dials = {}) {
  absl::StatusOr<PlanModel> plan = LoadPlanModel(model, dials);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : PlanModel();
}

PlanMachine Machine(const std::string& name) {
  double bytes = 0, flops = 0;
  const std::vector<std::string> limits = absl::StrSplit(name, ',');
  if (limits.size() == 2 && absl::SimpleAtod(limits[0], &bytes) &&
      absl::SimpleAtod(limits[1], &flops)) {
    return CpuMachine("a CPU", {{1, bytes}}, flops, 1.1e9);
  }
  absl::StatusOr<PlanMachine> machine = GpuPreset(name);
  EXPECT_TRUE(machine.ok()) << machine.status();
  return machine.ok() ? *std::move(machine) : PlanMachine();
}

// One line of plan_measured.tsv, which says what the fields are.
struct MeasuredRun {
  std::string kind, machine, model, source;
  double rows = 0, prompt_share = 0, measured = 0;
};

std::vector<MeasuredRun> MeasuredRuns() {
  std::ifstream file(BASED_SOURCE_DIR "/tests/client/plan_measured.tsv");
  std::vector<MeasuredRun> runs;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    EXPECT_EQ(fields.size(), 7u) << line;
    if (fields.size() != 7) continue;
    MeasuredRun run{
        .kind = fields[0], .machine = fields[1], .model = fields[2], .source = fields[6]};
    EXPECT_TRUE(absl::SimpleAtod(fields[3], &run.rows) &&
                absl::SimpleAtod(fields[4], &run.prompt_share) &&
                absl::SimpleAtod(fields[5], &run.measured))
        << line;
    runs.push_back(std::move(run));
  }
  return runs;
}

double Predicted(const MeasuredRun& run) {
  const bool demo = run.model == "models/demo";
  const PlanModel model = Load(demo ? kDemo : run.model);
  PlanMachine machine = Machine(run.machine);
  if (run.kind == "step") {
    return PredictStep(model.program, machine, {.decodes = run.rows}).seconds;
  }
  if (run.kind == "engine") {
    return PredictLoad(model.program, machine, {run.rows, run.prompt_share}).tokens_per_second;
  }
  if (run.kind == "prefill") {
    machine.limits.max_rows = static_cast<int32_t>(run.rows);
    return PredictPrefill(model.program, machine);
  }
  const CapacityPlan capacity = PlanCapacity(model.program, machine);
  if (run.kind == "pool_bytes") {
    return static_cast<double>(capacity.slots * capacity.slot.total());
  }
  EXPECT_EQ(run.kind, "slot_bytes");
  return static_cast<double>(capacity.slot.total());
}

TEST(Plan, PredictsMeasuredRuns) {
  const std::vector<MeasuredRun> runs = MeasuredRuns();
  EXPECT_GE(runs.size(), 12u);
  for (const MeasuredRun& run : runs) {
    const double predicted = Predicted(run);
    const std::string what = absl::StrCat(run.kind, " of ", run.model, " on ", run.machine, ", ",
                                          run.rows, " rows: ", predicted, " predicted, ",
                                          run.measured, " measured (", run.source, ")");
    std::printf("%+6.1f%%  %s\n", 100 * (predicted / run.measured - 1), what.c_str());
    EXPECT_LE(std::abs(predicted / run.measured - 1), kTolerance) << what;
  }
}

TEST(Plan, SlotsAreThoseOfTheCpuBackend) {
  for (const char* dir : {kDemo, kTiny}) {
    const auto config = LoadModelConfig(absl::StrCat(dir, "/config.json"));
    ASSERT_TRUE(config.ok()) << config.status();
    const auto checkpoint = LoadCheckpoint(dir, *config);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto backend = NewBackend({.kind = "cpu", .threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    const auto executable = (*backend)->Compile(checkpoint->program, (*backend)->DefaultOptions());
    ASSERT_TRUE(executable.ok()) << executable.status();
    const ExecutableInfo& info = (*executable)->info();
    const PlanModel model = Load(dir);
    EXPECT_EQ(PlanSlotBytes(model.program, false).total(), info.slot_bytes) << dir;
    EXPECT_NEAR(PlanWeightBytes(model.program) / static_cast<double>(info.weight_bytes), 1, 0.03);
    const double workspace = PlanWorkspaceBytes(model.program, false, (*backend)->DefaultOptions());
    EXPECT_NEAR(workspace / static_cast<double>(info.workspace_bytes), 1, 0.15) << dir;
  }
}

TEST(Plan, SlotsOfThePublishedShapeAreThoseOfTheCudaBackend) {
  // By hand from AddState in kernels/cuda/compiled_program.cc.
  const PlanModel model = Load("synthetic:based-1b");
  const SlotBytes slot = PlanSlotBytes(model.program, true);
  EXPECT_EQ(slot.total(), 14'959'616);
  EXPECT_EQ(slot.conv, 22 * 3 * 3584 * 2);
  EXPECT_EQ(slot.window, int64_t{7} * 2 * 16 * 129 * 112 * 2);
}

TEST(Plan, DialsTradeRecallForMemory) {
  const std::string name = "synthetic:based-1b";
  const PlanMachine h100 = Machine("H100");
  const auto slots = [&](const PlanDials& dials) {
    return PlanCapacity(Load(name, dials).program, h100).slots;
  };
  const int64_t as_is = slots({});
  EXPECT_GT(slots({.window_size = 128}), as_is * 5 / 4);
  EXPECT_LT(slots({.window_size = 4096}), as_is / 4);
  EXPECT_GT(slots({.feature_dim = 8}), as_is * 5 / 4);
  EXPECT_LT(slots({.feature_dim = 32}), as_is);
  // A checkpoint's own tensors are as wide as the dial says, too.
  const PlanModel demo = Load(kDemo, {.feature_dim = 8});
  EXPECT_LT(demo.parameters, Load(kDemo).parameters);
  EXPECT_LT(PlanSlotBytes(demo.program, false).taylor,
            PlanSlotBytes(Load(kDemo).program, false).taylor / 2);
}

TEST(Plan, KvCacheOfTheSameShape) {
  const PlanModel model = Load("synthetic:based-1b");
  const PlanMachine h100 = Machine("h100");
  const KvEquivalent kv = PredictKv(model.program, h100, 1000, 512, 2048);
  EXPECT_DOUBLE_EQ(kv.bytes_per_token, 2.0 * 36 * 1792 * 2);
  EXPECT_NEAR(kv.tokens_per_slot, 14'959'616 / kv.bytes_per_token, 1e-9);
  EXPECT_EQ(kv.sequences, std::floor(1000 * 14'959'616.0 / (kv.bytes_per_token * 2048)));
  EXPECT_EQ(kv.at_sequences, kv.sequences);
  const double longer = PredictKv(model.program, h100, 1000, 512, 8192).tokens_per_second;
  EXPECT_LT(longer, kv.tokens_per_second);
  EXPECT_EQ(PredictKv(model.program, h100, 1, 512, 8192).tokens_per_second, 0) << "none fits";
}

TEST(Plan, StreamsBeyondAStepTakeTurnsAndPromptsTakeRows) {
  const PlanModel model = Load("synthetic:based-360m");
  const PlanMachine machine = Machine("a100");
  const LoadPrediction full = PredictLoad(model.program, machine, {1152, 0});
  const LoadPrediction twice = PredictLoad(model.program, machine, {2304, 0});
  EXPECT_DOUBLE_EQ(twice.step_seconds, full.step_seconds);
  EXPECT_DOUBLE_EQ(twice.itl_seconds, 2 * full.itl_seconds);
  EXPECT_DOUBLE_EQ(twice.tokens_per_second, full.tokens_per_second);
  const LoadPrediction mixed = PredictLoad(model.program, machine, {1152, 0.9});
  EXPECT_LE(mixed.rows.decodes + mixed.rows.prefill, machine.limits.max_rows + 1e-6);
  EXPECT_NEAR(mixed.rows.prefill, 9 * mixed.rows.decodes, 1e-6);
  EXPECT_LT(mixed.tokens_per_second, full.tokens_per_second / 3);
  for (const double streams : {1.0, 7.0, 100.0, 1152.0}) {
    const LoadPrediction load = PredictLoad(model.program, machine, {streams, 0});
    EXPECT_LT(load.tokens_per_second, load.roofline_tokens_per_second) << streams;
  }
}

// Steps of a few rows have a kernel of their own for matrices of some widths; the demo's have none.
TEST(Plan, TheStepOfASmallModelOnAGpuHasNoJumpWhereTheFewRowsEnd) {
  const PlanMachine h100 = Machine("h100");
  const auto seconds = [&](const PlanModel& model, double rows) {
    return PredictStep(model.program, h100, {.decodes = rows}).seconds;
  };
  const PlanModel demo = Load(kDemo);
  EXPECT_LT(seconds(demo, 5) / seconds(demo, 4), 1.02);
  // Every kernel takes its least time, however small the matrix.
  const PlanModel small = Load("synthetic:based-360m");
  const StepPrediction one = PredictStep(small.program, h100, {.decodes = 1});
  const auto linears =
      std::count_if(small.program.ops.begin(), small.program.ops.end(),
                    [](const Op& op) { return std::holds_alternative<LinearOp>(op); });
  ASSERT_EQ(one.terms[0].name, "weights");
  EXPECT_GT(one.terms[0].seconds, static_cast<double>(linears) * h100.op_seconds);
  EXPECT_GT(seconds(small, 5), seconds(small, 4));
}

TEST(Plan, ReadsAreInterpolatedBetweenWorkingSets) {
  const PlanMachine machine = CpuMachine("x", {{1e6, 100e9}, {1e8, 20e9}}, 1e12, 1e9);
  EXPECT_DOUBLE_EQ(machine.BytesPerSecond(1), 100e9);
  EXPECT_DOUBLE_EQ(machine.BytesPerSecond(1e6), 100e9);
  EXPECT_NEAR(machine.BytesPerSecond(1e7), 60e9, 1);
  EXPECT_DOUBLE_EQ(machine.BytesPerSecond(1e9), 20e9);
}

TEST(Plan, AModelThatDoesNotFitSaysSo) {
  PlanMachine small = Machine("l4");
  small.memory_bytes = 3e9;
  const PlanReport plan = MakePlan(Load("synthetic:based-1b"), small, {}, 2048);
  EXPECT_EQ(plan.capacity.slots, 0);
  EXPECT_THAT(PlanText(plan), HasSubstr("does not fit"));
  EXPECT_THAT(PlanText(plan), HasSubstr("none was measured on this GPU"));
}

TEST(Plan, StreamsBeyondTheSlotsWait) {
  const auto plan_for = [](double streams) {
    return MakePlan(Load("synthetic:based-1b"), Machine("h100"), {streams, 0}, 2048);
  };
  const PlanReport full = plan_for(0);
  const PlanReport more = plan_for(100'000);
  EXPECT_EQ(more.load.streams, 100'000);
  EXPECT_DOUBLE_EQ(more.at_load.itl_seconds, full.at_load.itl_seconds);
  EXPECT_DOUBLE_EQ(more.at_load.tokens_per_second, full.at_load.tokens_per_second);
  EXPECT_EQ(more.points.back().streams, static_cast<double>(more.capacity.slots));
  EXPECT_THAT(PlanText(more), HasSubstr(absl::StrCat("of 100000 streams ", more.capacity.slots,
                                                     " have a slot at a time")));
  EXPECT_THAT(PlanText(full), testing::Not(HasSubstr("have a slot at a time")));
}

TEST(Plan, JsonTableAndPageSayTheSame) {
  PlanModel model = Load("synthetic:based-1b");
  model.name = "<script>alert(1)</script>";
  const PlanReport plan = MakePlan(std::move(model), Machine("h100"), {1024, 0}, 2048);
  const nlohmann::ordered_json json = PlanJson(plan);
  EXPECT_EQ(json["slots"], plan.capacity.slots);
  EXPECT_EQ(json["slot_bytes"]["total"], 14'959'616);
  EXPECT_EQ(json["load"]["based"]["decode_rows"], 1024);
  EXPECT_NEAR(json["load"]["based"]["itl_seconds"].get<double>(), plan.at_load.itl_seconds, 1e-12);
  double seconds = 0;
  for (const auto& term : json["load"]["step"]["terms"]) seconds += term["seconds"].get<double>();
  EXPECT_NEAR(seconds, plan.step.seconds, 1e-9);
  const std::string text = PlanText(plan);
  EXPECT_THAT(text, HasSubstr(absl::StrCat("slots       ", plan.capacity.slots)));
  EXPECT_THAT(text, HasSubstr("at a time     tokens/s\n")) << "what the KV cache's figures are of";
  EXPECT_THAT(text, HasSubstr(absl::StrCat("fit where ", plan.capacity.slots, " slots do")));
  const std::string page = PlanPage(plan);
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, testing::Not(HasSubstr("<script>")));
  EXPECT_THAT(page, testing::Not(HasSubstr("http")));
}

// Runs the command as main does; the flags are put back.
absl::Status RunPlan(const std::vector<const char*>& arguments) {
  const absl::FlagSaver saver;
  const Command command = PlanCommand([](int32_t, int64_t) { return MeasuredCpu{200e9, 50e9}; });
  const absl::StatusOr<CommandLine> line = ParseCommandLine(arguments, command.flags);
  return line.ok() ? command.run(*line) : line.status();
}

TEST(Plan, CommandLine) {
  const std::string page = testing::TempDir() + "plan.html";
  testing::internal::CaptureStdout();
  EXPECT_TRUE(
      RunPlan({"--model", kDemo, "--machine=measured", "--streams=32", "--html", page.c_str()})
          .ok());
  const std::string text = testing::internal::GetCapturedStdout();
  EXPECT_THAT(text, HasSubstr("this machine's CPU, measured"));
  EXPECT_THAT(text, HasSubstr("window 128, feature_dim 16"));
  EXPECT_TRUE(std::ifstream(page).good());
  testing::internal::CaptureStdout();
  EXPECT_TRUE(RunPlan({"--model=synthetic:based-1b", "--gpu=L40S", "--window=64", "--feature_dim=8",
                       "--json"})
                  .ok());
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("\"window_size\": 64"));
}

TEST(Plan, WrongCommandLinesNameTheFlag) {
  const char* synthetic = "--model=synthetic:based-1b";
  for (const auto& [arguments, message] :
       std::vector<std::pair<std::vector<const char*>, std::string>>{
           {{}, "--model"},
           {{synthetic, "--gpu=h900"}, "--gpu is 'h900'; expected one of h100"},
           {{synthetic, "--machine=fast"}, "--machine is 'fast'"},
           {{synthetic, "--machine=1e9,-1"}, "--machine"},
           {{synthetic, "--gpu=h100", "--machine=measured"}, "both"},
           {{synthetic, "--window=-1"}, "--window is -1"},
           {{synthetic, "--threads=-1"}, "--threads is -1; expected 0 (one per core) or more"},
           {{synthetic, "--feature_dim=1000"}, "--feature_dim is 1000"},
           {{synthetic, "--prompt_share=1"}, "--prompt_share is 1"},
           {{synthetic, "--streams=-1"}, "--streams is -1"},
           {{synthetic, "--context=0"}, "--context is 0"},
           {{synthetic, "--context=inf"}, "--context is inf"},
           {{synthetic, "--memory=-5"}, "--memory is -5"},
           {{synthetic, "--memory=nan"}, "--memory is nan"},
           {{synthetic, "--memory=inf"}, "--memory is inf"}}) {
    const absl::Status status = RunPlan(arguments);
    EXPECT_TRUE(IsUsageError(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

}  // namespace
}  // namespace based
