#include "launcher/cluster/product_choice.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "launcher/cluster/machine.h"
#include "runtime/ops.h"
#include "runtime/version.h"
#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

class ProductChoice : public testing::Test {
 protected:
  ProductChoice()
      : folder_(EmptyFolder(testing::UnitTest::GetInstance()->current_test_info()->name()) + "/cache/trefoil"),
        file_(folder_ + "/product_speeds") {}
  KnownSpeeds Speeds() { return SpeedsOfThisCpu(FileSystem::Posix(), folder_); }
  // A line of this CPU and program.
  static std::string Line(const std::string& speeds) {
    return absl::StrCat(speeds, " ", Name(UsedCpuLevel()), " ", VersionText(), " ", CpuModel(), "\n");
  }
  static std::string Plausible() { return CpuHasBFloat16() ? "100 400 90" : "100 0 90"; }

  const std::string folder_, file_;
};

TEST_F(ProductChoice, ACpuIsMeasuredOnce) {
  const KnownSpeeds first = Speeds(), second = Speeds();
  EXPECT_EQ(first.source, "measured now");
  EXPECT_EQ(second.source, "measured before, in " + file_);
  EXPECT_NEAR(second.speeds.float32 / first.speeds.float32, 1, 1e-3);
  EXPECT_NEAR(second.speeds.bf16_float32 / first.speeds.bf16_float32, 1, 1e-3);
  EXPECT_EQ(second.speeds.bf16_native > 0, CpuHasBFloat16());
}

TEST_F(ProductChoice, WhatIsInTheFileCounts) {
  std::filesystem::create_directories(folder_);
  WriteText(file_, "1 1 1 of another CPU\n" + Line(Plausible()));
  const KnownSpeeds known = Speeds();
  EXPECT_EQ(known.speeds.float32, 100e9);
  EXPECT_EQ(known.speeds.bf16_float32, 90e9);
  EXPECT_TRUE(absl::StartsWith(SpeedsText(known), "float32 100, bf16 ")) << SpeedsText(known);
  EXPECT_EQ(DefaultsBy(known.speeds).pays, CpuHasBFloat16());
  EXPECT_EQ(DefaultsBy(known.speeds).products, CpuHasBFloat16() ? RuntimeConfig::NATIVE : RuntimeConfig::FLOAT32);
}

TEST_F(ProductChoice, WhatMakesNoSenseIsMeasuredAgainAndOthersLinesStay) {
  std::filesystem::create_directories(folder_);
  const std::string no_bf16 = CpuHasBFloat16() ? "100 0 90" : "100 400 90";
  for (const std::string& bad : {Line("nan 400 90"), Line("-1 400 90"), Line("1e9 400 90"), Line("100 400"), Line(no_bf16),
                                 std::string("\x01\xff garbage"), std::string()}) {
    WriteText(file_, "1 1 1 of another CPU\n" + bad);
    EXPECT_EQ(Speeds().source, "measured now") << bad;
    EXPECT_EQ(Count(ReadText(file_), "1 1 1 of another CPU\n"), 1) << bad;
    EXPECT_EQ(Count(ReadText(file_), CpuModel() + "\n"), 1) << ReadText(file_);
    EXPECT_EQ(Speeds().source, "measured before, in " + file_) << bad;
  }
}

TEST_F(ProductChoice, AFolderThatCannotBeMadeCostsNothing) {
  std::filesystem::create_directories(std::filesystem::path(folder_).parent_path().parent_path());
  WriteText(std::filesystem::path(folder_).parent_path(), "a file where a folder should be");
  EXPECT_EQ(Speeds().source, "measured now");
  EXPECT_EQ(SpeedsOfThisCpu(FileSystem::Posix(), "").source, "measured now");
}

// runtime.bf16_products reaches the device.
TEST(MachineTest, MultipliesAsTheConfigSays) {
  const auto product = [](const std::unique_ptr<Device>& device) {
    const Tensor normal = device->Allocate(DType::kFloat32, {64, 4096}, Purpose::kWorkspace);
    const Tensor a = device->Allocate(DType::kBFloat16, {64, 4096}, Purpose::kWorkspace);
    const Tensor out = device->Allocate(DType::kFloat32, {64, 64}, Purpose::kWorkspace);
    FillNormal(*device, normal, normal.shape(), {0, 0}, /*key=*/7, 1.0f);
    Cast(*device, normal, a);
    Matmul(*device, a, Transpose::kNo, a, Transpose::kYes, out);
    std::vector<float> values(static_cast<size_t>(out.elements()));
    device->Download(out, values.data());
    return values;
  };
  RuntimeConfig runtime;
  runtime.set_threads(1);
  runtime.set_bf16_products(RuntimeConfig::FLOAT32);
  EXPECT_EQ(product(OpenCpu(runtime, 1)), product(NewCpuDevice(1, Bf16Products::kFloat32)));
  runtime.set_bf16_products(RuntimeConfig::NATIVE);
  EXPECT_EQ(product(OpenCpu(runtime, 1)), product(NewCpuDevice(1, Bf16Products::kNative)));
}

}  // namespace
}  // namespace trefoil
