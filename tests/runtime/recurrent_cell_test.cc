// One step of a cell against plain loops in double; its backward too, and against finite differences.
#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

constexpr DType kFloat = DType::kFloat32;
const Shape kShapes[] = {{3, 7}, {1, 1}, {0, 5}, {33, 260}, {65, 96}, {4, 0}};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Lstm {
  Values activated, c, h;      // of a forward
  Values d_gates, d_c_before;  // of a backward
};

// gates: [B, 4H], i f g o. dc: may be empty.
Lstm Reference(int64_t columns, const Values& gates, const Values& c_before, const Values& dh, const Values& dc) {
  Lstm r = {.activated = gates, .c = c_before, .h = c_before, .d_gates = gates, .d_c_before = c_before};
  for (size_t at = 0; at < c_before.size(); ++at) {
    const size_t first = at / columns * 4 * columns + at % columns;
    const size_t ii = first, ff = first + columns, gg = first + 2 * columns, oo = first + 3 * columns;
    const double i = r.activated[ii] = Sigmoid(gates[ii]), f = r.activated[ff] = Sigmoid(gates[ff]);
    const double g = r.activated[gg] = std::tanh(gates[gg]), o = r.activated[oo] = Sigmoid(gates[oo]);
    r.c[at] = f * c_before[at] + i * g;
    const double t = std::tanh(r.c[at]);
    r.h[at] = o * t;
    const double d_cell = (dc.empty() ? 0 : dc[at]) + dh[at] * o * (1 - t * t);
    r.d_gates[ii] = d_cell * g * i * (1 - i);
    r.d_gates[ff] = d_cell * c_before[at] * f * (1 - f);
    r.d_gates[gg] = d_cell * i * (1 - g * g);
    r.d_gates[oo] = dh[at] * t * o * (1 - o);
    r.d_c_before[at] = d_cell * f;
  }
  return r;
}

TEST_P(DTypes, LstmCell) {
  for (const Shape& shape : kShapes) {
    for (const bool with_dc : {false, true}) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << shape << " dc " << with_dc << " in place " << in_place);
        const Shape wide = {shape[0], 4 * shape[1]};
        Lstm reference;
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor gates = Random(device, kFloat, wide, 1, 2), c_before = Random(device, kFloat, shape, 2);
          const Tensor dh = Random(device, kFloat, shape, 3);
          const Tensor dc = with_dc ? Random(device, kFloat, shape, 4) : Tensor();
          reference = Reference(shape[1], Get(device, gates), Get(device, c_before), Get(device, dh),
                                with_dc ? Get(device, dc) : Values());
          const Tensor h = Poisoned(device, GetParam(), shape), c = Poisoned(device, kFloat, shape);
          RecurrentCell(device, Cell::kLstm, gates, c_before, h, c);
          const Tensor activated = Clone(device, gates);
          const Tensor d_gates = in_place ? gates : Poisoned(device, kFloat, wide);
          const Tensor d_c_before = in_place && with_dc ? dc : Poisoned(device, kFloat, shape);
          RecurrentCellBackward(device, Cell::kLstm, dh, dc, gates, c_before, c, d_gates, d_c_before);
          return std::vector<Tensor>{activated, c, h, d_gates, d_c_before};
        });
        ExpectClose(results[0], reference.activated, 3e-6, "activated gates");
        ExpectClose(results[1], reference.c, 3e-6, "c");
        ExpectClose(results[2], reference.h, Tolerance(GetParam()), "h");
        ExpectClose(results[3], reference.d_gates, 1e-5, "d_gates");
        ExpectClose(results[4], reference.d_c_before, 1e-5, "d_c_before");
      }
    }
  }
}

TEST_P(DTypes, TanhCell) {
  for (const Shape& shape : kShapes) {
    for (const bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << shape << " in place " << in_place);
      Values h_reference, d_reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor gates = Random(device, kFloat, shape, 1), dh = Random(device, kFloat, shape, 3);
        h_reference = Get(device, gates);
        d_reference = Get(device, dh);
        for (size_t i = 0; i < h_reference.size(); ++i) {
          h_reference[i] = std::tanh(h_reference[i]);
          d_reference[i] *= 1 - h_reference[i] * h_reference[i];
        }
        const Tensor h = Poisoned(device, GetParam(), shape);
        RecurrentCell(device, Cell::kTanh, gates, {}, h, {});
        const Tensor activated = Clone(device, gates), d_gates = in_place ? gates : Poisoned(device, kFloat, shape);
        RecurrentCellBackward(device, Cell::kTanh, dh, {}, gates, {}, {}, d_gates, {});
        return std::vector<Tensor>{activated, h, d_gates};
      });
      ExpectClose(results[0], h_reference, 3e-6, "activated gates");
      ExpectClose(results[1], h_reference, Tolerance(GetParam()), "h");
      ExpectClose(results[2], d_reference, 3e-6, "d_gates");
    }
  }
}

// Two steps, so that the second's d_c_before is the first's dc.
TEST(RecurrentCell, LstmBackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Shape shape = {5, 9}, wide = {5, 36};
  const Tensor first = Random(*device, kFloat, wide, 1), second = Random(*device, kFloat, wide, 2);
  const Tensor c0 = Random(*device, kFloat, shape, 3), c1 = Poisoned(*device, kFloat, shape);
  const Tensor c2 = Poisoned(*device, kFloat, shape), h1 = Poisoned(*device, kFloat, shape);
  const Tensor h2 = Poisoned(*device, kFloat, shape);
  const Tensor dh1 = Random(*device, kFloat, shape, 4), dh2 = Random(*device, kFloat, shape, 5);
  Tensor gates1, gates2;
  const auto loss = [&] {
    gates1 = Clone(*device, first);
    gates2 = Clone(*device, second);
    RecurrentCell(*device, Cell::kLstm, gates1, c0, h1, c1);
    RecurrentCell(*device, Cell::kLstm, gates2, c1, h2, c2);
    return Dot(Get(*device, h1), Get(*device, dh1)) + Dot(Get(*device, h2), Get(*device, dh2));
  };
  loss();
  const Tensor dc1 = Poisoned(*device, kFloat, shape), dc0 = Poisoned(*device, kFloat, shape);
  RecurrentCellBackward(*device, Cell::kLstm, dh2, {}, gates2, c1, c2, gates2, dc1);
  RecurrentCellBackward(*device, Cell::kLstm, dh1, dc1, gates1, c0, c1, gates1, dc0);
  const Values d_first = Get(*device, gates1), d_second = Get(*device, gates2);
  ExpectGradient(*device, first, loss, d_first, "gates of step 1");
  ExpectGradient(*device, second, loss, d_second, "gates of step 2");
  ExpectGradient(*device, c0, loss, Get(*device, dc0), "c before step 1");
}

TEST(RecurrentCell, TanhBackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Shape shape = {5, 9};
  const Tensor before = Random(*device, kFloat, shape, 1), dh = Random(*device, kFloat, shape, 2);
  const Tensor h = Poisoned(*device, kFloat, shape);
  Tensor gates;
  const auto loss = [&] {
    gates = Clone(*device, before);
    RecurrentCell(*device, Cell::kTanh, gates, {}, h, {});
    return Dot(Get(*device, h), Get(*device, dh));
  };
  loss();
  RecurrentCellBackward(*device, Cell::kTanh, dh, {}, gates, {}, {}, gates, {});
  ExpectGradient(*device, before, loss, Get(*device, gates), "gates");
}

TEST(RecurrentCellDeathTest, RefusesWrongShapes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](Shape shape) { return device->Allocate(kFloat, shape, Purpose::kActivations); };
  const Tensor h = make({2, 3});
  EXPECT_DEATH(RecurrentCell(*device, Cell::kLstm, make({2, 9}), h, h, h), "gates is .2, 9., must be .2, 12.");
  EXPECT_DEATH(RecurrentCell(*device, Cell::kLstm, make({2, 12}), {}, h, h), "c_before is undefined");
  EXPECT_DEATH(RecurrentCell(*device, Cell::kTanh, h, h, h, {}), "no c");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
