"""Speed peer: a sweep over frozen depths by `xp sweep`, and the same jobs one after another in PyTorch.

VGG16 without its dense layers at 150x150 with random weights, frozen up to rows 11, 15,
16, 17 and 19; 600 training and 40 validation photos as in frozen_base.py; the notebook's
head, SGD 1e-4 with momentum 0.9, batches of 16, 5 epochs. Two threads, float32, whole
processes, imports included.

PyTorch runs each depth as people write it: the whole network in every epoch, the frozen
layers without gradients, channels_last; --epochs of them are timed and the rest is
multiplied. The bill is xp's own, in multiply-adds: how many times as much five separate
jobs are as five that share the frozen layers. The goal is 0.8 of that bound times how
much faster xp's kernels are on the forward pass, which is measured here too.

    cargo build --release
    python benches/peers/frozen_sweep.py [--xp target/release/xp] [--epochs 1] [--jobs 1]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import frozen_base

ROOT = Path(__file__).parents[2]
SIZE, EPOCHS, BATCH = 150, 5, 16
DEPTHS = [11, 15, 16, 17, 19]
# Keras counts the input layer and the pools: torchvision's index of the first layer after each depth.
TORCH_CUTS = {11: 17, 15: 24, 16: 26, 17: 28, 19: 31}

SPEC = f"""\
name: frozen-depths
seed: 1
device: cpu
data: {{ train: train, valid: valid, image_size: {SIZE}, resize: bilinear, batch_size: {BATCH} }}
model:
  backbone: vgg16
  weights: random
  head: [flatten, {{ dense: {{ units: 256, activation: relu }} }}, {{ dropout: 0.5 }}, {{ dense: {{ units: 1, activation: sigmoid }} }}]
preprocess: rescale
optimizer: {{ sgd: {{ learning_rate: 1.0e-4, momentum: 0.9 }} }}
epochs: {EPOCHS}
sweep: {{ parameters: {{ model.frozen_layers: {{ values: {DEPTHS} }} }} }}
"""


def by_torch(folder, depth, n_epochs):
    import torch
    import torchvision
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(frozen_base.THREADS))
    layers = torchvision.models.vgg16(weights=None).features.eval().to(memory_format=torch.channels_last)
    frozen, trained = layers[: TORCH_CUTS[depth]], layers[TORCH_CUTS[depth] :]
    frozen.requires_grad_(False)
    head = nn.Sequential(nn.Flatten(), nn.Linear(512 * 4 * 4, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 1))
    optimizer = torch.optim.SGD([*trained.parameters(), *head.parameters()], 1e-4, momentum=0.9)
    data = {split: frozen_base.read(folder, split) for split in frozen_base.N_IMAGES}

    def logits(pixels):
        with torch.no_grad():
            features = frozen((pixels.float() / 255).contiguous(memory_format=torch.channels_last))
        return head(trained(features))[:, 0]

    pixels, labels = data["train"]
    with torch.no_grad():
        layers(torch.zeros(1, 3, SIZE, SIZE))
        began = time.perf_counter()
        for _ in range(2):
            layers((pixels[:32].float() / 255).contiguous(memory_format=torch.channels_last))
        forward = 64 / (time.perf_counter() - began)
    epoch_s = []
    for _ in range(n_epochs):
        began = time.perf_counter()
        head.train()
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = F.binary_cross_entropy_with_logits(logits(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        head.eval()
        with torch.no_grad():
            for batch in torch.arange(len(data["valid"][1])).split(BATCH):
                logits(data["valid"][0][batch])
        epoch_s.append(time.perf_counter() - began)
    return {"untimed_s": (EPOCHS - n_epochs) * statistics.median(epoch_s), "forward": forward}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xp", default=str(ROOT / "target/release/xp"))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", default="1")
    parser.add_argument("--peer", nargs=2, metavar=("DEPTH", "FOLDER"), help="one job alone; this is how it is called")
    args = parser.parse_args()
    frozen_base.N_IMAGES.update({"train": 300, "valid": 20})
    if args.peer:
        print(json.dumps(by_torch(Path(args.peer[1]), int(args.peer[0]), args.epochs)))
        return
    os.environ["OMP_NUM_THREADS"] = frozen_base.THREADS
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        frozen_base.write_images(folder)
        (folder / "spec.yaml").write_text(SPEC)
        xp = [args.xp, "--home", str(folder / "home")]
        planned = subprocess.run([*xp, "sweep", "spec.yaml", "--dry-run", "--json"], cwd=folder, check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        bill = json.loads(planned)["bill"]
        bound = bill["every_time"] / bill["shared"]
        cost = subprocess.run([*xp, "summary", "spec.yaml", "--set", "model.frozen_layers=all", "--cost"], cwd=folder,
                              check=True, stdout=subprocess.PIPE, text=True).stdout
        forward = next(float(line.split()[0]) for line in cost.splitlines() if "images a second" in line)
        ours, _ = frozen_base.timed([*xp, "sweep", "spec.yaml", "--jobs", args.jobs], cwd=folder)
        print(f"xp, {len(DEPTHS)} depths: {ours:.1f} s", file=sys.stderr, flush=True)
        theirs, forwards = [], []
        for depth in DEPTHS:
            took, output = frozen_base.timed(
                [sys.executable, __file__, "--epochs", str(args.epochs), "--peer", str(depth), str(folder)])
            result = json.loads(output.splitlines()[-1])
            theirs.append(took + result["untimed_s"])
            forwards.append(result["forward"])
            print(f"PyTorch, {depth} rows frozen: {theirs[-1]:.1f} s", file=sys.stderr, flush=True)
    kernels = forward / statistics.median(forwards)
    ratio, goal = sum(theirs) / ours, 0.8 * bound * kernels
    print(f"bill: {bill['shared'] / 1e12:.2f} T multiply-adds shared, {bill['every_time'] / 1e12:.2f} T in separate jobs, bound {bound:.2f}")
    print(f"forward: xp {forward:.1f} images/s, PyTorch {statistics.median(forwards):.1f}, ratio {kernels:.2f}")
    print(f"xp {ours:.1f} s, PyTorch {sum(theirs):.1f} s: {ratio:.2f} times as fast; the goal is 0.8 x {bound:.2f} x {kernels:.2f} = {goal:.2f}")


if __name__ == "__main__":
    main()
