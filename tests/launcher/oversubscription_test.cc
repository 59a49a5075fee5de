#include "launcher/cluster/oversubscription.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/host/cpu_features.h"

namespace trefoil {
namespace {

TEST(OversubscriptionTest, OneRankSaysWhatItMayUse) {
  const std::string text = CoresText(3);
  EXPECT_EQ(text.substr(0, 2), "3 ");
  EXPECT_EQ(std::count(text.begin() + 2, text.end(), '1'), CoresAllowed()) << text;
}

TEST(OversubscriptionTest, EnoughCoresAreNotWorthALine) {
  EXPECT_EQ(OversubscriptionLine(Hosts("a", 2), {"1 11", "1 11"}), "");
  EXPECT_EQ(OversubscriptionLine(Hosts("a", 2), {"2 1100", "2 0011"}), "") << "each bound to cores of its own";
  EXPECT_EQ(OversubscriptionLine(Hosts({"a", "b"}), {"2 11", "2 11"}), "");
}

TEST(OversubscriptionTest, NamesTheHostAndWhatFits) {
  EXPECT_EQ(OversubscriptionLine(Hosts("a", 4), {"2 11", "2 11", "2 11", "2 11"}),
            "warning   a: 4 ranks x 2 threads are 8 threads on 2 cores, which take turns: a step may take several times "
            "longer; nearest that fits: 2 ranks of one thread\n");
  EXPECT_EQ(OversubscriptionLine(Hosts("a", 2), {"4 1111", "4 1111"}),
            "warning   a: 2 ranks x 4 threads are 8 threads on 4 cores, which take turns: a step may take several times "
            "longer; nearest that fits: runtime.threads (or OMP_NUM_THREADS) 2\n");
  // Both bound to the same core.
  EXPECT_EQ(OversubscriptionLine(Hosts("a", 2), {"1 01", "1 01"}),
            "warning   a: 2 ranks x 1 thread are 2 threads on 1 core, which take turns: a step may take several times "
            "longer; nearest that fits: 1 rank of one thread\n");
  EXPECT_EQ(OversubscriptionLine(Hosts({"a", "b", "c"}), {"1 1", "2 1", "3 1"}),
            "warning   b: 1 rank x 2 threads are 2 threads on 1 core, which take turns: a step may take several times "
            "longer; nearest that fits: runtime.threads (or OMP_NUM_THREADS) 1; 1 more host is like that\n");
}

}  // namespace
}  // namespace trefoil
