"""Decoding and resizing of a photo by xp and by Pillow, in turn: medians and their ratio.

    python benches/peers/decode_pillow.py [--rounds 5]

The photo is tests/fixtures/coffee.png, resized to 640x427 and saved as JPEG with
quality 90 and 4:2:0 subsampling. Both read it from memory, decode it to RGB and
resize it to 224x224 with bicubic, 200 times after 20 that are not counted, on one
thread. xp is built by `cargo bench --bench decode`, which the first round waits
for; versions are those of requirements.txt.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
N_WARM_UP, N_TIMED = 20, 200


def photo():
    file = io.BytesIO()
    with Image.open(ROOT / "tests/fixtures/coffee.png") as coffee:
        photo = coffee.convert("RGB").resize((640, 427), Image.Resampling.LANCZOS)
    photo.save(file, "JPEG", quality=90, subsampling="4:2:0")
    return file.getvalue()


def pillow(path):
    jpeg = Path(path).read_bytes()
    times_ms = []
    for _ in range(N_WARM_UP + N_TIMED):
        began = time.perf_counter()
        Image.open(io.BytesIO(jpeg)).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        times_ms.append((time.perf_counter() - began) * 1e3)
    print(json.dumps({"median_ms": statistics.median(times_ms[N_WARM_UP:]), "n": N_TIMED}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pillow", metavar="FILE", help="time Pillow alone; this is how it is called for a round")
    args = parser.parse_args()
    if args.pillow:
        return pillow(args.pillow)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(photo())
        file.flush()
        commands = {
            "xp": ["cargo", "bench", "--quiet", "--bench", "decode", "--", file.name],
            "Pillow": [sys.executable, __file__, "--pillow", file.name],
        }
        medians = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
                medians[name].append(json.loads(told.splitlines()[-1])["median_ms"])
    for name, times_ms in medians.items():
        print(f"{name}: {statistics.median(times_ms):.2f} ms ({min(times_ms):.2f} to {max(times_ms):.2f})")
    ratios = [ours / theirs for ours, theirs in zip(medians["xp"], medians["Pillow"])]
    print(f"xp takes {statistics.median(ratios):.2f} of Pillow's time ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
