"""xp beside its peer: the same fine-tuning by both, in turn, medians of wall time and peak memory.

    cargo build --release
    python -m venv venv && venv/bin/pip install -r benches/peers/requirements.txt
    venv/bin/python benches/compare.py [--rounds 5] [--xp target/release/xp]

Both read the same images, freeze the same layers, keep the frozen layers'
output in memory (xp's cache on disk is off) and train the rest for ten epochs; see experiments/finetune.yaml
and benches/peers/finetune_torch.py. Times are those of the whole process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def measure(command):
    """Seconds, MiB and the output of a command that must succeed."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        output.seek(0)
        text = output.read().decode()
    assert status == 0, text
    return seconds, usage.ru_maxrss / 1024, text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--xp", default="target/release/xp")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        commands = {
            "xp": [args.xp, "--home", home, "run", "experiments/finetune.yaml", "--set", "cache.enabled=false"],
            "PyTorch": [sys.executable, "benches/peers/finetune_torch.py", "--lr", "3e-4"],
        }
        measured = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                measured[name].append(measure(command))
    for name, rounds in measured.items():
        seconds, mib, texts = zip(*rounds)
        print(f"{name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
              f"{statistics.median(mib):.0f} MiB")
        print("  " + "\n  ".join(texts[-1].strip().splitlines()[-4:]))


if __name__ == "__main__":
    main()
