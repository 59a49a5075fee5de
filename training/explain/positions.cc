#include "training/explain/positions.h"

#include <glog/logging.h>

#include <cmath>

#include "training/explain/on_host.h"

namespace trefoil {
namespace {

void CheckWorker(const Worker& worker, int64_t samples) {
  CHECK_EQ(worker.all->size(), 1);
  CHECK_EQ(worker.micro_batches(), 1);
  CHECK(samples > 0 && samples % worker.config.training().global_batch() == 0) << samples;
  CHECK_EQ(worker.config.model().targets(), worker.config.model().sequence_length());
}

}  // namespace

absl::StatusOr<std::vector<double>> LossByPosition(Worker& worker, const BatchSource& source, int64_t samples) {
  CheckWorker(worker, samples);
  const auto length = static_cast<size_t>(worker.config.model().sequence_length());
  std::vector<double> sums(length), weights(length);
  BatchSource counted = source;
  counted.get = [&](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    TREFOIL_ASSIGN_OR_RETURN(Batch batch, source(first, count));
    for (size_t i = 0; i < static_cast<size_t>(count) * length; ++i) {
      weights[i % length] += batch.weights.defined() ? batch.weights.values<float>()[i] : 1;
    }
    return batch;
  };
  worker.inspector = [&](Pass pass, int, const std::string& name, const Tensor& x) {
    if (pass != Pass::kForward || name != "head.loss") return;
    const std::vector<float> losses = OnHost<float>(worker.device, x);
    for (size_t i = 0; i < losses.size(); ++i) sums[i % length] += losses[i];
  };
  const absl::Status evaluated = Evaluate(worker, counted, samples).status();
  worker.inspector = nullptr;
  TREFOIL_RETURN_IF_ERROR(evaluated);
  for (size_t t = 0; t < length; ++t) sums[t] = weights[t] > 0 ? sums[t] / weights[t] : 0;
  return sums;
}

absl::StatusOr<std::vector<double>> GradientByDistance(Worker& worker, const BatchSource& source, int64_t samples) {
  CheckWorker(worker, samples);
  const int64_t length = worker.config.model().sequence_length(), batch_size = worker.config.training().global_batch();
  std::vector<double> norms(static_cast<size_t>(length));
  const BatchSource last([&](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    TREFOIL_ASSIGN_OR_RETURN(Batch batch, source(first, count));
    batch.weights = HostTensor::Zeros(DType::kFloat32, batch.targets.shape());
    for (int64_t row = 1; row <= count; ++row) batch.weights.values<float>()[static_cast<size_t>(row * length - 1)] = 1;
    return batch;
  }, /*weighted=*/true);
  Tensor first_block;  // of its gradients the last, which is that of what goes in
  worker.inspector = [&](Pass pass, int module, const std::string&, const Tensor& x) {
    if (pass == Pass::kBackward && module == 1) first_block = x;
  };
  const auto add = [&](const Tensor& x) {
    const int64_t columns = x.dim(1);
    const std::vector<float> gradients = OnHost<float>(worker.device, x);
    for (int64_t row = 0; row < x.dim(0); ++row) {
      double squares = 0;
      for (int64_t c = 0; c < columns; ++c) {
        const double value = gradients[static_cast<size_t>(row * columns + c)];
        squares += value * value;
      }
      // The step's loss is the mean over the batch of the last targets' losses.
      norms[static_cast<size_t>(length - 1 - row % length)] +=
          std::sqrt(squares) * static_cast<double>(batch_size) / static_cast<double>(samples);
    }
  };
  absl::Status status;
  for (int64_t first = 0; first < samples && status.ok(); first += batch_size) {
    status = TrainStep(worker, last, /*step=*/1, first, /*learning_rate=*/0).status();
    if (status.ok()) add(first_block);
  }
  worker.inspector = nullptr;
  TREFOIL_RETURN_IF_ERROR(status);
  return norms;
}

}  // namespace trefoil
