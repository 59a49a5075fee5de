// What nvcc made of the CUDA kernels, read from ptxas's reports and from the machine code, with no GPU: no kernel
// spills registers or needs a stack frame, and those that stream tensors load 16 bytes at a time. Prints a table.
//
// Arguments, in any order: the reports (FILE.ptxas), the objects (FILE.cu.o) and cuobjdump, beside which nvdisasm lies.
#include <cxxabi.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace trefoil {
namespace {

using testing::IsSupersetOf;
using testing::UnorderedElementsAre;

std::vector<std::string> arguments;

// Kernels that may have a stack frame.
const std::map<std::string, const char*> kMayHaveAStack = {
    {"AnglesKernel", "the library's sine of large angles has a table"},
    {"FillNormalKernel", "runs once, when a run begins"},
};
// Kernels that need not load 16 bytes at a time, besides those that a template argument Access<1, ...> or
// Access<..., false> makes the way around tensors that cannot be.
const std::map<std::string, const char*> kMayLoadNarrowly = {
    {"AddBandsKernel", "sums of a few bands' diagonals"},
    {"AddPartialsKernel", "sums of few columns, down the rows"},
    {"AnglesKernel", "loads nothing but constants"},
    {"CombineKernel", "three or four statistics a row"},
    {"CountKernel", "ids"},
    {"FillNormalKernel", "loads nothing but constants"},
    {"PlaceBucketsKernel", "ids"},
    {"PlaceMembersKernel", "ids"},
    {"SortKernel", "ids"},
};

struct Kernel {
  std::string file, name, architecture;  // "norm", "RmsNormKernel<Access<8, true>, BFloat16>", "sm_80"
  int registers = 0, shared = 0, stack = 0, spilled = 0;  // shared: static
  int loads = 0, wide_loads = 0;                          // of global memory, as instructions
  bool disassembled = false;

  std::string base() const { return name.substr(0, name.find('<')); }
  // Whether its accesses to global memory are meant to be of 16 bytes.
  bool wide() const {
    static const std::regex narrow("Access<1, |Access<[0-9]+, false>");
    return !std::regex_search(name, narrow) && !kMayLoadNarrowly.contains(base());
  }
  std::string Text() const { return file + ".cu, " + architecture + ", " + name; }
};

// The demangled name without the namespaces, the return type and the parameters.
std::string Readable(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), &std::free);
  std::string name = status == 0 ? text.get() : mangled;
  for (const std::string_view left_out : {"trefoil::cuda::", "trefoil::", "(anonymous namespace)::"}) {
    for (size_t at; (at = name.find(left_out)) != std::string::npos;) name.erase(at, left_out.size());
  }
  name.erase(std::min(name.size(), name.find('(')));
  if (name.starts_with("void ")) name.erase(0, 5);
  return name;
}

std::string StemOf(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  return file.substr(0, file.find("."));
}

std::vector<std::string> ArgumentsEndingWith(std::string_view end) {
  std::vector<std::string> found;
  std::copy_if(arguments.begin(), arguments.end(), std::back_inserter(found),
               [&](const std::string& argument) { return argument.ends_with(end); });
  return found;
}

using Kernels = std::map<std::pair<std::string, std::string>, Kernel>;  // by mangled name and architecture

void ReadReport(const std::string& path, Kernels& kernels) {
  // ptxas info : Compiling entry function 'NAME' for 'sm_80'
  // ptxas info : Function properties for NAME     (and of functions that it calls)
  //     8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
  // ptxas info : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 128 bytes smem, ...
  const std::regex entry("Compiling entry function '(.*)' for '(.*)'");
  const std::regex frame("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
  const std::regex used("Used ([0-9]+) registers"), shared("([0-9]+) bytes smem");
  std::ifstream report(path);
  EXPECT_TRUE(report.is_open()) << path;
  Kernel* kernel = nullptr;
  std::smatch match;
  for (std::string line; std::getline(report, line);) {
    if (std::regex_search(line, match, entry)) {
      kernel = &kernels[{match[1], match[2]}];
      *kernel = {.file = StemOf(path), .name = Readable(match[1]), .architecture = match[2]};
    } else if (kernel == nullptr) {
      continue;
    } else if (std::regex_search(line, match, frame)) {
      kernel->stack = std::max(kernel->stack, std::stoi(match[1]));
      kernel->spilled += std::stoi(match[2]) + std::stoi(match[3]);
    } else if (std::regex_search(line, match, used)) {
      kernel->registers = std::stoi(match[1]);
      if (std::regex_search(line, match, shared)) kernel->shared = std::stoi(match[1]);
    }
  }
}

void ReadMachineCode(const std::string& cuobjdump, const std::string& path, Kernels& kernels) {
  const std::string command = cuobjdump + " -sass " + path;
  const std::unique_ptr<FILE, decltype(&pclose)> pipe(popen(command.c_str(), "r"), &pclose);
  ASSERT_NE(pipe, nullptr) << command;
  std::string architecture;
  Kernel* kernel = nullptr;
  char* buffer = nullptr;
  size_t size = 0;
  while (getline(&buffer, &size, pipe.get()) >= 0) {
    std::string_view line(buffer);
    const auto after = [&](std::string_view label) -> std::string {
      const size_t at = line.find(label);
      if (at == std::string_view::npos) return "";
      const std::string_view rest = line.substr(at + label.size());
      return std::string(rest.substr(0, rest.find_first_of(" \t\n")));
    };
    if (line.starts_with("arch = ")) architecture = after("arch = ");
    if (const std::string name = after("Function : "); !name.empty()) {
      const auto found = kernels.find({name, architecture});
      kernel = found == kernels.end() ? nullptr : &found->second;
      if (kernel != nullptr) kernel->disassembled = true;
    }
    if (kernel == nullptr) continue;
    // "/*00c0*/  @P0 LDG.E.128 R4, [R2.64] ;": LDG loads, LDGSTS copies to shared memory.
    const std::string modifiers = after(" LDG") + after(" LDGSTS");
    if (modifiers.empty()) continue;
    ++kernel->loads;
    if (modifiers.find(".128") != std::string::npos) ++kernel->wide_loads;
  }
  std::free(buffer);
}

const Kernels& All() {
  static const Kernels all = [] {
    Kernels kernels;
    for (const std::string& path : ArgumentsEndingWith(".ptxas")) ReadReport(path, kernels);
    const std::vector<std::string> cuobjdump = ArgumentsEndingWith("cuobjdump");
    EXPECT_EQ(cuobjdump.size(), 1u);
    if (cuobjdump.size() != 1) return kernels;
    const std::string folder = cuobjdump[0].substr(0, cuobjdump[0].rfind('/'));
    setenv("PATH", (folder + ":" + std::getenv("PATH")).c_str(), /*overwrite=*/1);
    for (const std::string& path : ArgumentsEndingWith(".cu.o")) ReadMachineCode(cuobjdump[0], path, kernels);
    return kernels;
  }();
  return all;
}

// The tests below would pass on nothing.
TEST(CudaCodegenTest, EveryKernelIsThereForBothArchitectures) {
  std::map<std::string, std::set<std::string>> architectures;
  std::set<std::string> files;
  for (const auto& [key, kernel] : All()) {
    architectures[key.first].insert(kernel.architecture);
    files.insert(kernel.file);
    EXPECT_TRUE(kernel.disassembled) << kernel.Text() << ": not in the object";
    EXPECT_GT(kernel.registers, 0) << kernel.Text();
  }
  EXPECT_THAT(files, IsSupersetOf({"activation", "adamw", "attention", "attention_backward", "attention_bias",
                                   "cross_entropy", "elementwise", "embedding", "mean_pool", "norm", "random",
                                   "recurrent_cell", "rotary", "squared_error"}));
  for (const auto& [name, of_kernel] : architectures) {
    EXPECT_THAT(of_kernel, UnorderedElementsAre("sm_80", "sm_90a")) << Readable(name);
  }
}

TEST(CudaCodegenTest, NoKernelSpills) {
  for (const auto& [key, kernel] : All()) {
    EXPECT_EQ(kernel.spilled, 0) << kernel.Text() << " spills registers";
    if (kMayHaveAStack.contains(kernel.base())) continue;
    EXPECT_EQ(kernel.stack, 0) << kernel.Text() << " has a stack frame";
  }
}

TEST(CudaCodegenTest, KernelsOverTensorsLoad16BytesAtATime) {
  for (const auto& [key, kernel] : All()) {
    if (!kernel.wide() || kernel.loads == 0) continue;
    EXPECT_GT(kernel.wide_loads, 0) << kernel.Text() << " has " << kernel.loads
                                    << " loads from global memory, none of 16 bytes";
  }
}

TEST(CudaCodegenTest, ExceptionsAreOfKernelsThatExist) {
  std::set<std::string> bases;
  for (const auto& [key, kernel] : All()) bases.insert(kernel.base());
  for (const auto& exceptions : {kMayHaveAStack, kMayLoadNarrowly}) {
    for (const auto& [base, reason] : exceptions) EXPECT_TRUE(bases.contains(base)) << base;
  }
}

// A line for each kernel and architecture, the largest numbers of its instances.
void PrintTable() {
  struct Row {
    int instances = 0, wide = 0, registers = 0, shared = 0, stack = 0, spilled = 0;
  };
  std::map<std::string, Row> rows;
  for (const auto& [key, kernel] : All()) {
    Row& row = rows[kernel.file + " " + kernel.base() + " " + kernel.architecture];
    ++row.instances;
    row.wide += kernel.wide_loads > 0;
    row.registers = std::max(row.registers, kernel.registers);
    row.shared = std::max(row.shared, kernel.shared);
    row.stack = std::max(row.stack, kernel.stack);
    row.spilled = std::max(row.spilled, kernel.spilled);
  }
  std::printf("%-52s %9s %9s %9s %9s %9s %9s\n", "kernel (of its instances, the largest; bytes)", "instances",
              "registers", "shared", "stack", "spills", "16-byte");
  for (const auto& [name, row] : rows) {
    std::printf("%-52s %9d %9d %9d %9d %9d %9d\n", name.c_str(), row.instances, row.registers, row.shared, row.stack,
                row.spilled, row.wide);
  }
}

}  // namespace
}  // namespace trefoil

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  trefoil::arguments.assign(argv + 1, argv + argc);
  trefoil::PrintTable();
  return RUN_ALL_TESTS();
}
