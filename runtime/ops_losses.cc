// Losses and their gradients.
#include "runtime/op_run.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

void CheckWeights(const Tensor& weights, int64_t rows) {
  if (weights.defined()) Check("weights", weights, kFloat, {rows});
}

void CheckSmoothing(const LabelSmoothing& smoothing) {
  CHECK(smoothing.share >= 0 && smoothing.share < 1) << "share " << smoothing.share << ", must be in [0, 1)";
  CHECK(smoothing.share == 0 || smoothing.vocabulary >= 2) << "a vocabulary of " << smoothing.vocabulary;
}

void CheckRegression(const Tensor& prediction, const Tensor& target, const Tensor& weights) {
  CheckActivation("prediction", prediction, 2);
  CHECK_GE(prediction.dim(1), 1) << "no columns";
  Check("target", target, kFloat, prediction.shape());
  CheckWeights(weights, prediction.dim(0));
}

}  // namespace

void CrossEntropyStatistics(Device& device, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics) {
  CheckActivation("logits", logits, 2);
  Check("logits", logits, kFloat, logits.shape());
  Check("targets", targets, DType::kInt32, {logits.dim(0)});
  CheckActivation("statistics", statistics, 2);
  const bool summed = statistics.dim(1) == 4;
  Check("statistics", statistics, kFloat, {logits.dim(0), summed ? 4 : 3});
  Run(device, "cross_entropy_statistics", (summed ? 13.0 : 12.0) * logits.elements(),
      Bytes({&logits, &targets, &statistics}),
      [&](Kernels& kernels) { kernels.CrossEntropyStatistics(logits, targets, first_column, statistics); });
}

void CrossEntropyCombine(Device& device, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing, const Tensor& correct) {
  CheckSmoothing(smoothing);
  CheckActivation("statistics", statistics, 3);
  const int64_t rows = statistics.dim(1);
  const bool summed = smoothing.share > 0 || statistics.dim(2) == 4;
  Check("statistics", statistics, kFloat, {statistics.dim(0), rows, summed ? 4 : 3});
  CHECK_GE(statistics.dim(0), 1);
  Check("loss", loss, kFloat, {rows});
  Check("log_sum_exp", log_sum_exp, kFloat, {rows});
  CheckWeights(weights, rows);
  if (correct.defined()) Check("correct", correct, kFloat, {rows});
  Run(device, "cross_entropy_combine", 5.0 * statistics.elements(),
      Bytes({&statistics, &weights, &loss, &log_sum_exp, &correct}), [&](Kernels& kernels) {
        kernels.CrossEntropyCombine(statistics, weights, loss, log_sum_exp, smoothing, correct);
      });
}

void CrossEntropyBackward(Device& device, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing) {
  CheckSmoothing(smoothing);
  CheckActivation("logits", logits, 2);
  Check("logits", logits, kFloat, logits.shape());
  Check("targets", targets, DType::kInt32, {logits.dim(0)});
  Check("log_sum_exp", log_sum_exp, kFloat, {logits.dim(0)});
  CheckWeights(weights, logits.dim(0));
  CheckActivation("d_logits", d_logits, 2);
  Check("d_logits", d_logits, d_logits.dtype(), logits.shape());
  Run(device, "cross_entropy_backward", 12.0 * logits.elements(),
      Bytes({&logits, &targets, &weights, &log_sum_exp, &d_logits}), [&](Kernels& kernels) {
        kernels.CrossEntropyBackward(logits, targets, weights, log_sum_exp, first_column, scale, d_logits, smoothing);
      });
}

void SquaredError(Device& device, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss) {
  CheckRegression(prediction, target, weights);
  Check("loss", loss, kFloat, {prediction.dim(0)});
  Run(device, "squared_error", 3.0 * prediction.elements(), Bytes({&prediction, &target, &weights, &loss}),
      [&](Kernels& kernels) { kernels.SquaredError(prediction, target, weights, loss); });
}

void SquaredErrorBackward(Device& device, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                          float scale, const Tensor& d_prediction) {
  CheckRegression(prediction, target, weights);
  Check("d_prediction", d_prediction, prediction.dtype(), prediction.shape());
  Run(device, "squared_error_backward", 2.0 * prediction.elements(),
      Bytes({&prediction, &target, &weights, &d_prediction}), [&](Kernels& kernels) {
        kernels.SquaredErrorBackward(prediction, target, weights, scale, d_prediction);
      });
}

}  // namespace trefoil
