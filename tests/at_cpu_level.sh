#!/bin/sh
# at_cpu_level.sh LEVEL PROGRAM...: runs test programs as on a CPU of this level (runtime/host/cpu_features.h), or of the
# machine's own where that is lower.
export TREFOIL_CPU_LEVEL=$1
shift
for program; do
  "$program" --gtest_brief=1 || { echo "failed at $TREFOIL_CPU_LEVEL: $program"; exit 1; }
done
