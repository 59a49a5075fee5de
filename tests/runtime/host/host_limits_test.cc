#include "runtime/host/host_limits.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace trefoil {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// A host of 1000 MiB, 800 of them available, in a folder.
class HostLimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:        1024000 kB\nMemFree:          512000 kB\nMemAvailable:     819200 kB\n");
  }
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  // As the kernel has it: version 2 alone, with this process in `group`.
  void MountUnified(const std::string& group, const std::string& top = "/") const {
    Write("/proc/self/cgroup", "0::" + group + "\n");
    Write("/proc/self/mountinfo",
          "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
          "31 23 0:26 " + top + " /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  // Version 1, and an empty version 2 beside it.
  void MountHybrid(const std::string& group, const std::string& top = "/") const {
    Write("/proc/self/cgroup", "5:cpuset:" + group + "\n4:memory:" + group + "\n1:cpu,cpuacct:" + group + "\n0::/\n");
    Write("/proc/self/mountinfo",
          "32 31 0:29 " + top + " /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
          "34 31 0:31 " + top + " /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
          "35 31 0:32 " + top + " /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
          "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  }
  void Expect(int64_t memory_mib, int64_t available_mib, int cores) const {
    const HostLimits limits = ReadHostLimits(root_);
    EXPECT_EQ(limits.memory_bytes, memory_mib * kMiB);
    EXPECT_EQ(limits.available_bytes, available_mib * kMiB);
    EXPECT_EQ(limits.cores, cores);
  }
  static std::string Bytes(int64_t mib) { return std::to_string(mib * kMiB) + "\n"; }

  const std::string root_ = testing::TempDir() + "host";
};

TEST_F(HostLimitsTest, TheHostsWhereNoGroupLimits) {
  Expect(1000, 800, 0);  // no groups at all
  MountUnified("/user.slice");
  Write("/sys/fs/cgroup/user.slice/memory.max", "max\n");
  Write("/sys/fs/cgroup/user.slice/memory.high", "max\n");
  Write("/sys/fs/cgroup/user.slice/memory.current", Bytes(100));
  Write("/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  Expect(1000, 800, 0);
  MountHybrid("/user.slice");
  Write("/sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/user.slice/memory.usage_in_bytes", Bytes(100));
  Write("/sys/fs/cgroup/cpu/user.slice/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/user.slice/cpu.cfs_period_us", "100000\n");
  Expect(1000, 800, 0);
}

// A container sees its own group as the top.
TEST_F(HostLimitsTest, AContainer) {
  MountUnified("/");
  Write("/sys/fs/cgroup/memory.max", Bytes(300));
  Write("/sys/fs/cgroup/memory.current", Bytes(120));
  Write("/sys/fs/cgroup/memory.stat", "anon 1\nfile 99\ninactive_anon 7\n");
  Write("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  Expect(300, 180, 2);
  Write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  Expect(300, 180, 2);
  Write("/sys/fs/cgroup/cpu.max", "5000 100000\n");
  Expect(300, 180, 1);
}

TEST_F(HostLimitsTest, PagesOfFilesAreFree) {
  MountUnified("/");
  Write("/sys/fs/cgroup/memory.max", Bytes(300));
  Write("/sys/fs/cgroup/memory.current", Bytes(290));
  Write("/sys/fs/cgroup/memory.stat", "inactive_file " + Bytes(50) + "active_file " + Bytes(30) + "unevictable 7\n");
  Expect(300, 90, 0);
  MountHybrid("/");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", Bytes(300));
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", Bytes(290));
  Write("/sys/fs/cgroup/memory/memory.stat",
        "inactive_file 1\nactive_file 1\ntotal_inactive_file " + Bytes(60) + "total_active_file " + Bytes(30));
  Expect(300, 100, 0);
}

// The host has less than the group may take.
TEST_F(HostLimitsTest, TheLeastOfHostAndGroup) {
  MountUnified("/");
  Write("/sys/fs/cgroup/memory.max", Bytes(900));
  Write("/sys/fs/cgroup/memory.current", Bytes(10));
  Expect(900, 800, 0);
}

// 0 would mean that nothing is known.
TEST_F(HostLimitsTest, AFullGroupHasAPage) {
  MountUnified("/");
  Write("/sys/fs/cgroup/memory.max", Bytes(300));
  Write("/sys/fs/cgroup/memory.current", Bytes(301));
  EXPECT_EQ(ReadHostLimits(root_).available_bytes, 4096);
}

TEST_F(HostLimitsTest, GroupsAroundItLimitToo) {
  MountUnified("/system.slice/slurmstepd.scope/job_7/step_0/user/task_1");
  const std::string job = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7";
  Write(job + "/memory.max", Bytes(400));
  Write(job + "/memory.current", Bytes(350));
  Write(job + "/cpuset.cpus.effective", "0-3,8\n");
  Write(job + "/step_0/memory.max", Bytes(200));
  Write(job + "/step_0/memory.current", Bytes(90));
  Write(job + "/step_0/user/task_1/memory.max", "max\n");
  Write(job + "/step_0/user/task_1/cpuset.cpus.effective", "8\n");
  Expect(200, 50, 1);
  Write(job + "/memory.high", Bytes(380));
  Expect(200, 30, 1);
  // Its sisters do not.
  MountUnified("/system.slice/slurmstepd.scope/job_7/step_1");
  Expect(380, 30, 5);
  MountUnified("/system.slice/slurmstepd.scope/job_70");
  Expect(1000, 800, 0);
}

TEST_F(HostLimitsTest, VersionOne) {
  MountHybrid("/slurm/job_7");
  Write("/sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", Bytes(500));
  Write("/sys/fs/cgroup/memory/slurm/memory.usage_in_bytes", Bytes(100));
  Write("/sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", Bytes(450));
  Write("/sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", Bytes(20));
  Write("/sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_quota_us", "250000\n");
  Write("/sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_period_us", "100000\n");
  Expect(450, 400, 3);
  Write("/sys/fs/cgroup/cpuset/slurm/job_7/cpuset.effective_cpus", "4-5\n");
  Expect(450, 400, 2);
}

// What docker does where groups have no namespaces: the container's group is mounted as the top, under its long name.
TEST_F(HostLimitsTest, AMountOfOnePart) {
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", Bytes(300));
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", Bytes(100));
  Write("/sys/fs/cgroup/memory/step/memory.limit_in_bytes", Bytes(150));
  MountHybrid("/docker/8f3a", /*top=*/"/docker/8f3a");
  Expect(300, 200, 0);
  MountHybrid("/docker/8f3a/step", /*top=*/"/docker/8f3a");
  Expect(150, 150, 0);
  MountHybrid("/docker/8f3a7", /*top=*/"/docker/8f3a");  // another's
  Expect(1000, 800, 0);
  // In a namespace whose mount is of before it: of groups further up, all of which hold this one.
  MountHybrid("/", /*top=*/"/../..");
  Expect(300, 200, 0);
}

TEST(HostLimits, OfThisMachine) {
  const HostLimits limits = ReadHostLimits();
  EXPECT_GT(limits.memory_bytes, kMiB);
  EXPECT_GE(limits.available_bytes, 4096);
  EXPECT_LE(limits.available_bytes, limits.memory_bytes);
}

}  // namespace
}  // namespace trefoil
