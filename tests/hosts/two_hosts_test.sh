#!/bin/bash
# Trefoil on two hosts with real TCP between them (tests/hosts/on_hosts): a few steps on 2 x 2 ranks lose what they lose on one host;
# a rank that hangs, and a host whose link goes down, end the job with rank and host named; a tensor group across hosts is seen.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
trefoil=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1

fail() {
  echo "FAILED: $*"
  exit 1
}

for i in {1..400}; do echo "line $i of a text about $((i * 7919 % 97)) ships and $((i * 104729 % 89)) harbours"; done >text.txt
"$trefoil" tokenize --input=text.txt --output=tokens --vocabulary=300 >/dev/null || fail "tokenize"
cat >run.pbtxt <<END
model { family: LLAMA layers: 4 hidden: 64 heads: 4 sequence_length: 32 }
data { train: "tokens/train-*" }
training { steps: 6 global_batch: 8 micro_batch: 1 precision: FP32 }
END
train=("$trefoil" train --config=run.pbtxt)
losses() { grep -o '"step":[0-9]*,"loss":[-0-9.e]*\|"loss":[-0-9.e]*' "$1/metrics.jsonl"; }

# One host.
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 4 --oversubscribe --bind-to none \
  "${train[@]}" --set folder=one --set parallel.tensor=2 --set parallel.pipeline=2 >one.log 2>&1 || fail "one host: $(<one.log)"

"$here/on_hosts" 2 true 2>why
if (($? == 77)); then
  echo "SKIPPED: $(<why)"
  exit 0
fi

# Two hosts, a stage on each.
"$here/on_hosts" 2 bash -c 'mpirun -n 4 --hostfile "$HOSTFILE" --bind-to none "$@"' - \
  "${train[@]}" --set folder=two --set parallel.tensor=2 --set parallel.pipeline=2 >two.log 2>&1 || fail "two hosts: $(<two.log)"
[[ -n $(losses one) && $(losses one) == "$(losses two)" ]] || fail "losses differ: $(losses one) and $(losses two)"
grep -q 'hosts     h1: ranks 0-1; h2: ranks 2-3' two.log || fail "the summary names no hosts: $(<two.log)"
! grep -q warning two.log || fail "a warning of nothing: $(<two.log)"

# Ranks dealt out one by one: tensor groups lie across hosts, and a line says so.
"$here/on_hosts" 2 bash -c 'mpirun -n 4 --hostfile "$HOSTFILE" --map-by node --bind-to none "$@"' - \
  "${train[@]}" --set folder=dealt --set parallel.tensor=2 --set parallel.pipeline=2 >dealt.log 2>&1 || fail "dealt: $(<dealt.log)"
grep -q 'warning   2 tensor groups lie across hosts (ranks 0-1 on h1, h2)' dealt.log || fail "no warning: $(<dealt.log)"
[[ $(losses one) == "$(losses dealt)" ]] || fail "losses differ: $(losses one) and $(losses dealt)"

# A rank that hangs on the second host; then the second host's link.
for trouble in hang cut; do
  cat >trouble_$trouble <<END
#!/bin/bash
mpirun -n 4 --hostfile "\$HOSTFILE" --bind-to none "\$@" >$trouble.log 2>&1 &
job=\$!
for ((i = 0; i < 600; ++i)); do grep -q 'step ' $trouble.log && break; sleep 0.1; done
if [[ $trouble == hang ]]; then
  # Rank 3 alone.
  for process in \$(pgrep -x trefoil); do
    tr '\\0' '\\n' <"/proc/\$process/environ" 2>/dev/null | grep -q '^OMPI_COMM_WORLD_RANK=3\$' && kill -STOP "\$process"
  done
else
  ip link set port2 down
fi
for ((i = 0; i < 300; ++i)); do grep -q 'waited 3 s' $trouble.log && break; sleep 0.1; done
sleep 1
kill \$job 2>/dev/null
END
  chmod +x trouble_$trouble
  timeout 120 "$here/on_hosts" 2 ./trouble_$trouble "${train[@]}" --set folder=$trouble --set parallel.tensor=2 \
    --set parallel.pipeline=2 --set training.steps=1000000 --set runtime.timeout_seconds=3
  grep -q 'waited 3 s (runtime.timeout_seconds)' $trouble.log || fail "$trouble: no time-out: $(tail -30 $trouble.log)"
done
grep -q 'rank [0-9] on h[12] waited 3 s .* for rank 3 on h2, which did not come' hang.log || fail "hang: $(tail -30 hang.log)"
grep -q 'on h1 waited 3 s .* for rank [23] on h2' cut.log || fail "cut: $(tail -30 cut.log)"
echo PASSED
