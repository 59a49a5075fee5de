#!/bin/bash
# Four hosts with disks of their own and real TCP between them (tests/hosts/on_hosts): checkpoints lie on the hosts, twice; one
# host is lost with its disk, the three that are left go on, on another layout and in another order, and lose what one host
# loses that never stopped. The same of snapshots in memory, of a job that is killed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
trefoil=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1 here

fail() {
  echo "FAILED: $*"
  exit 1
}

for i in {1..400}; do echo "line $i of a text about $((i * 7919 % 97)) ships and $((i * 104729 % 89)) harbours"; done >text.txt
"$trefoil" tokenize --input=text.txt --output=tokens --vocabulary=300 >/dev/null 2>&1 || fail "tokenize"
cat >run.pbtxt <<END
model { family: LLAMA layers: 3 hidden: 48 heads: 4 sequence_length: 32 }
data { train: "tokens/train-*" }
training { steps: 12 global_batch: 8 micro_batch: 1 precision: FP32 }
END
losses() { grep -o '"loss":[-0-9.e]*' "$1/metrics.jsonl" | cut -d: -f2; }

OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 1 "$trefoil" train --config=run.pbtxt --set folder=one \
  >one.log 2>&1 || fail "one host: $(<one.log)"

"$here/on_hosts" 2 true 2>why
if (($? == 77)); then
  echo "SKIPPED: $(<why)"
  exit 0
fi

# Eight ranks on four hosts; then, without the host that is named, a stage on each of the three that are left, backwards.
cat >lose_a_host <<'END'
#!/bin/bash
set -u
lost=$1 name=$2 where=$3
shift 3
train=("$@" --set "folder=$name")
if [[ $where == disk ]]; then
  train+=(--set "training.checkpoint.folder=$HOST_DISK/run" --set training.checkpoint.every_steps=4)
else
  train+=(--set training.checkpoint.every_steps_in_memory=2)
fi
mpirun -n 8 --hostfile "$HOSTFILE" --bind-to none "${train[@]}" --set parallel.tensor=2 --set parallel.data=4 >$name.four.log 2>&1 &
job=$!
# The job is stopped dead once there is something to go on from.
for ((i = 0; i < 2000; ++i)); do
  grep -qs 'Saved checkpoint of step 8' $name.four.log && break
  grep -qs '"snapshot_step":[4-9]' $name/metrics.jsonl && break
  sleep 0.01
done
pkill -KILL -x trefoil
wait $job 2>/dev/null
"$ON_HOST" $lost "rm -rf $HOST_DISK/* /dev/shm/*"
[[ $lost == h1 && $where == disk ]] && mv $name $name.of_lost  # as if it had been on rank 0's host
tac "$HOSTFILE" | grep -v "^$lost " | sed 's/slots=2/slots=1/' >left
mpirun -n 3 --hostfile left --bind-to none "${train[@]}" --set parallel.pipeline=3 >$name.three.log 2>&1
END
chmod +x lose_a_host
# Losses of the second file, from the step of its first line on, are those of the first.
same_losses() {
  paste <(losses one | tail -n "$(losses "$1" | wc -l)") <(losses "$1") |
    awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d } END { print NR " losses, largest difference " worst; exit !(NR >= 4 && worst < 1e-5) }'
}
for lost in h1 h3; do
  for where in disk memory; do
    name=${where}_$lost
    "$here/on_hosts" 4 ./lose_a_host $lost $name $where "$trefoil" train --config=run.pbtxt ||
      fail "$lost is lost, $where: $(tail -n 30 $name.*.log)"
    if [[ $where == disk ]]; then
      grep -q 'saves     in each host.s own .*/disk/run, 2 copies, .*(h1 > h2 > h3 > h4 > h1)' $name.four.log || fail "not said: $(<$name.four.log)"
      grep -q 'Resuming from .*/disk/run/step-00000008 (step 8,' $name.three.log || fail "did not resume: $(<$name.three.log)"
    else
      grep -q 'Resuming from /dev/shm/trefoil-memory_h[13]-[0-9a-f]*/step-' $name.three.log || fail "did not resume: $(<$name.three.log)"
    fi
    same_losses $name || fail "$lost is lost, $where: other losses: $(losses $name)"
  done
done
echo PASSED
