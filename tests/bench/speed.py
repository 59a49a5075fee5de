#!/usr/bin/env python3
"""Training speeds side by side on this machine: everything in turn, several rounds, medians and ratios.

    tests/bench/speed.py targets bazel-bin/launcher/trefoil           # share of the measured peak, by preset and precision
    tests/bench/speed.py layouts bazel-bin/launcher/trefoil           # 2 ranks x 1 thread beside 1 rank x 2 threads
    tests/bench/speed.py start bazel-bin/launcher/trefoil             # seconds from the command to the end of step 1
    tests/bench/speed.py peers bazel-bin/launcher/trefoil --tokens=64 [--llmc=PATH]

`peers` trains GPT-2 124M on batches of 4 sequences in Trefoil, in PyTorch (torch_gpt2.py; needs `pip install torch numpy`
and runs under the Python that runs this; --python adds others, such as /usr/bin/python3 with Debian's python3-torch), and in
llm.c if --llmc names a build of its CPU trainer that takes batch, length and steps and prints "(took N ms)" a step. Programs
that cannot run are named and left out. A machine that does nothing else is best; interleaving and medians even out the rest.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Program:
    """A command, and how to read tokens/s and what else is worth a column from its output."""

    def __init__(self, name, command, read):
        self.name, self.command, self.read = name, command, read
        self.found, self.notes, self.error = [], [], None

    def run(self):
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            self.error = lines[-1] if lines else "exit status %d" % done.returncode
            return
        value, note = self.read(done.stdout)
        self.found.append(value)
        self.notes.append(note)


def read_bench(text):
    return (float(re.search(r"([\d.]+) tokens/s", text).group(1)),
            float(re.search(r"([\d.]+)% of peak", text).group(1)))


def read_torch(text):
    return float(re.search(r"([\d.]+) tokens/s", text).group(1)), None


def read_llmc(batch, tokens):
    def read(text):
        took = [float(ms) for ms in re.findall(r"took ([\d.]+) ms", text)]
        return batch * tokens / statistics.median(took[1:]) * 1e3, None
    return read


def bench(trefoil, name, config, batch, tokens, precision, steps, ranks=1, threads=2, sets=()):
    sets = ["training.global_batch=%d" % batch, "training.micro_batch=%d" % batch, "model.dropout=0",
            "model.sequence_length=%d" % tokens, "training.precision=" + precision, "runtime.threads=%d" % threads,
            *sets]
    launch = [trefoil] if ranks == 1 else [trefoil, "launch", "-n", str(ranks), "--"]
    return Program(name, launch + ["bench", "--config=" + config, "--steps=%d" % steps, "--warm_up=1"] +
                   ["--set=" + s for s in sets], read_bench)


def targets(options):
    t = options.trefoil
    for precision in "BF16", "FP32":
        yield bench(t, "GPT-2 124M, 4 x 64, " + precision, "gpt2_124m", 4, 64, precision, 3)
        yield bench(t, "GPT-2 124M, 4 x 1024, " + precision, "gpt2_124m", 4, 1024, precision, 1)
        yield bench(t, "Llama 60M, 8 x 512, " + precision, "llama_60m", 8, 512, precision, 1)


def layouts(options):
    def row(name, ranks, threads, *sets):
        return bench(options.trefoil, name, "gpt2_124m", 8, 128, options.precision, 2, ranks, threads, sets)
    yield row("1 rank x 2 threads", 1, 2)
    yield row("data 2", 2, 1, "training.micro_batch=4")
    yield row("tensor 2", 2, 1, "parallel.tensor=2")
    yield row("pipeline 2, 8 micro-batches", 2, 1, "parallel.pipeline=2", "training.micro_batch=1")


def torch_version(python):
    done = subprocess.run([python, "-c", "import torch; print(torch.__version__.split('+')[0])"], capture_output=True,
                          text=True, check=False)
    return done.stdout.strip() or "of %s" % python


def peers(options):
    tokens, steps = options.tokens, 3 if options.tokens <= 256 else 1
    for precision in "BF16", "FP32":
        yield bench(options.trefoil, "Trefoil " + precision, "gpt2_124m", 4, tokens, precision, steps)
    for python in sys.executable, *options.python:
        version = torch_version(python)
        for name, arguments in (("float32", ["--dtype=float32"]), ("bf16 autocast", ["--dtype=bfloat16"]),
                                ("pure bf16", ["--dtype=bfloat16", "--mode=pure"])):
            for compiled in [], ["--compile"]:
                if compiled and version.startswith("1."):
                    continue  # has no torch.compile
                yield Program("PyTorch %s %s%s" % (version, name, " compiled" if compiled else ""),
                              [python, os.path.join(HERE, "torch_gpt2.py"), "--batch=4", "--tokens=%d" % tokens,
                               "--steps=%d" % steps, "--warm_up=1", *arguments, *compiled], read_torch)
    if options.llmc:
        yield Program("llm.c", [options.llmc, "4", str(tokens), str(steps + 1)], read_llmc(4, tokens))


def table(programs, rounds):
    for turn in range(rounds):
        for program in programs:
            print("\r\033[Kround %d of %d: %s" % (turn + 1, rounds, program.name), end="", file=sys.stderr, flush=True)
            if program.error is None:
                program.run()
    print("\r\033[K", end="", file=sys.stderr)
    print("%-38s %10s %10s %10s   %s" % ("", "tokens/s", "of peak", "of first", "all rounds"))
    ran = [program for program in programs if program.error is None]
    first = statistics.median(ran[0].found) if ran else None
    for program in programs:
        if program.error is not None:
            print("%-38s left out: %s" % (program.name, program.error))
            continue
        median, note = statistics.median(program.found), program.notes[0]
        peak = "%.1f%%" % statistics.median(program.notes) if note is not None else ""
        print("%-38s %10.1f %10s %10.2f   %s" % (program.name, median, peak, median / first,
                                                " ".join("%.1f" % value for value in program.found)))


def start(options):
    """Seconds until the first step's line, data and all."""
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/words.txt", "w", encoding="utf-8") as text:
            text.writelines("the quick brown fox number %d jumps over %d lazy dogs\n" % (i, i * i) for i in range(40000))
        subprocess.run([options.trefoil, "tokenize", "--input=" + folder + "/words.txt", "--output=" + folder + "/tokens",
                        "--vocabulary=320"], check=True, capture_output=True)
        for config, ranks, sets in (("quickstart", 4, ["parallel.tensor=2", "parallel.pipeline=2"]),
                                    ("gpt2_124m", 1, ["model.sequence_length=64", "training.global_batch=4",
                                                      "training.micro_batch=4"])):
            command = [options.trefoil, "launch", "-n", str(ranks), "--", "train", "--config=" + config] + [
                "--set=" + s for s in (*sets, "folder=" + folder + "/run", "training.steps=2", "data.held_out=",
                                       "training.optimizer.warmup_steps=0", "data.train=" + folder + "/tokens/train-*")]
            seconds = [first_step(command, folder + "/run") for _ in range(options.rounds)]
            print("%-12s %d rank(s): first step done after %.2f s (median of %s)" % (
                config, ranks, statistics.median(seconds), " ".join("%.2f" % s for s in seconds)))


def first_step(command, run):
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if re.match(r"step +1/", line):
                seconds = time.monotonic() - begin
    if process.returncode != 0:
        sys.exit("".join(said))
    shutil.rmtree(run)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="what", required=True)
    mode = {name: modes.add_parser(name) for name in ("targets", "layouts", "start", "peers")}
    for name, options in mode.items():
        options.add_argument("trefoil", help="the program")
        options.add_argument("--rounds", type=int, default=3)
        if name != "start":
            options.add_argument("--skip", help="leave out what matches this regular expression, such as 'PyTorch.*bf16'")
    mode["layouts"].add_argument("--precision", default="FP32", help="FP32 (default) or BF16")
    mode["peers"].add_argument("--tokens", type=int, default=64, help="length of a sequence")
    mode["peers"].add_argument("--llmc", help="llm.c's CPU trainer")
    mode["peers"].add_argument("--python", action="append", default=[], help="another Python with PyTorch; may be repeated")
    options = parser.parse_args()
    if options.what == "start":
        start(options)
    else:
        programs = {"targets": targets, "layouts": layouts, "peers": peers}[options.what](options)
        table([p for p in programs if not options.skip or not re.search(options.skip, p.name)], options.rounds)


main()
