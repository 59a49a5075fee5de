#!/usr/bin/env python3
"""Planned step times beside measured ones, on this machine.

    tests/bench/plan_times.py bazel-bin/launcher/trefoil [ROUNDS]

In each round (default 3) it calibrates this machine, then runs `trefoil plan` and `trefoil bench` (3 steps) for 20 configs
on 1, 2 and 4 ranks. A shared machine's speed changes within minutes: rounds spread both sides over the same time. Prints a
line for each config, the medians over the rounds of planned and measured milliseconds and by how much they differ. A round
takes about 5 minutes, on a machine that does nothing else. Needs Python's standard library only.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile

GPT = "gpt2_124m"
LLAMA = "llama_60m"
SMALL = ["model.layers=4", "model.vocabulary=8192"]
TINY = ["model.layers=4", "model.hidden=256", "model.heads=8", "model.vocabulary=2048"]

# Ranks, config, settings.
CONFIGS = [
    (1, GPT, ["training.global_batch=4", "training.micro_batch=4", "model.sequence_length=64"]),
    (1, GPT, ["training.global_batch=1", "training.micro_batch=1", "model.sequence_length=512"]),
    (1, GPT, SMALL + ["training.global_batch=4", "training.micro_batch=2", "model.sequence_length=256"]),
    (1, GPT, SMALL + ["training.global_batch=4", "training.micro_batch=2", "model.sequence_length=256",
                      "parallel.recompute=FULL"]),
    (1, GPT, TINY + ["training.global_batch=16", "training.micro_batch=4", "model.sequence_length=128"]),
    (1, LLAMA, SMALL + ["training.global_batch=4", "training.micro_batch=4", "model.sequence_length=512"]),
    (1, LLAMA, SMALL + ["training.global_batch=4", "training.micro_batch=1", "model.sequence_length=256",
                        "parallel.recompute=SELECTIVE"]),
    (1, LLAMA, TINY + ["training.global_batch=32", "training.micro_batch=8", "model.sequence_length=64"]),
    (2, GPT, SMALL + ["training.global_batch=4", "training.micro_batch=2", "model.sequence_length=256",
                      "parallel.tensor=2"]),
    (2, GPT, SMALL + ["training.global_batch=4", "training.micro_batch=2", "model.sequence_length=256",
                      "parallel.tensor=2", "parallel.sequence_parallel=true"]),
    (2, GPT, SMALL + ["training.global_batch=8", "training.micro_batch=1", "model.sequence_length=256",
                      "parallel.pipeline=2"]),
    (2, GPT, SMALL + ["training.global_batch=8", "training.micro_batch=1", "model.sequence_length=256",
                      "parallel.pipeline=2", "parallel.schedule=GPIPE", "parallel.recompute=FULL"]),
    (2, GPT, SMALL + ["training.global_batch=4", "training.micro_batch=2", "model.sequence_length=256"]),
    (2, LLAMA, SMALL + ["training.global_batch=8", "training.micro_batch=2", "model.sequence_length=256",
                        "parallel.tensor=2"]),
    (2, LLAMA, SMALL + ["training.global_batch=8", "training.micro_batch=2", "model.sequence_length=256",
                        "parallel.pipeline=2", "parallel.schedule=INTERLEAVED"]),
    (2, LLAMA, SMALL + ["training.global_batch=8", "training.micro_batch=2", "model.sequence_length=256",
                        "parallel.zero=NONE"]),
    (4, GPT, SMALL + ["training.global_batch=8", "training.micro_batch=2", "model.sequence_length=256",
                      "parallel.tensor=2", "parallel.pipeline=2"]),
    (4, GPT, SMALL + ["training.global_batch=8", "training.micro_batch=2", "model.sequence_length=256"]),
    (4, LLAMA, SMALL + ["training.global_batch=16", "training.micro_batch=1", "model.sequence_length=256",
                        "parallel.pipeline=4"]),
    (4, LLAMA, SMALL + ["training.global_batch=16", "training.micro_batch=2", "model.sequence_length=256",
                        "parallel.pipeline=2"]),
]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit("%s\n%s%s" % (" ".join(command), done.stdout, done.stderr))
    return done.stdout + done.stderr


def milliseconds(text):
    value, unit = re.search(r"step ([\d.]+) (ms|s)\b", text).groups()
    return float(value) * (1e3 if unit == "s" else 1)


def measure(trefoil, cluster, ranks, config, settings):
    """Planned and measured milliseconds of a step."""
    arguments = ["--config=" + config] + ["--set=" + s for s in settings + ["training.precision=FP32"]]
    planned = run([trefoil, "plan", "--gpus=%d" % ranks, "--cluster=" + cluster] + arguments)
    real = run([trefoil, "launch", "-n", str(ranks), "--", "bench", "--steps=3"] + arguments)
    return milliseconds(planned), milliseconds(real)


def main():
    trefoil = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found = [[] for _ in CONFIGS]
    for turn in range(rounds):
        cluster = os.path.join(tempfile.mkdtemp(), "here.pbtxt")
        run([trefoil, "launch", "-n", "2", "--", "calibrate", "--output=" + cluster])
        for i, (ranks, config, settings) in enumerate(CONFIGS):
            print("\rround %d of %d: %d of %d" % (turn + 1, rounds, i + 1, len(CONFIGS)), end="", file=sys.stderr)
            found[i].append(measure(trefoil, cluster, ranks, config, settings))
    print(file=sys.stderr)
    print("%5s %-10s %10s %10s %7s  %s" % ("ranks", "config", "planned ms", "real ms", "", "settings"))
    worst = within = 0
    for (ranks, config, settings), times in zip(CONFIGS, found):
        planned, real = (statistics.median(side) for side in zip(*times))
        error = planned / real - 1
        worst = max(worst, abs(error))
        within += abs(error) <= 0.2
        print("%5d %-10s %10.1f %10.1f %+6.1f%%  %s" % (ranks, config, planned, real, 100 * error, " ".join(settings)))
    print("within 20%%: %d of %d; worst %.1f%%" % (within, len(CONFIGS), 100 * worst))


main()
