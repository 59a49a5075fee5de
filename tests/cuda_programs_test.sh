#!/bin/sh
# cuda_programs_test.sh PROGRAM...: each was built and linked with CUDA, and starts, be there a GPU or not.
for program; do
  case $program in
    launcher/trefoil) arguments=help ;;
    *) arguments=--gtest_list_tests ;;
  esac
  OMP_NUM_THREADS=1 "$program" $arguments >"$TEST_TMPDIR/output" 2>&1 || {
    echo "$program $arguments: exit status $?"
    cat "$TEST_TMPDIR/output"
    exit 1
  }
  case $(ldd "$program") in
    *libcublasLt*) ;;
    *) echo "$program is not linked with CUDA"; exit 1 ;;
  esac
done
