"""Speed peer: the project's default fine-tune written directly in PyTorch.

EfficientNet-Lite0 at 96x96 on experiments/data/fashion: everything up to the
cut is frozen, the layers after it (by default timm's blocks.6, conv_head and
its bn2) and a fresh 10-way head train; BatchNorm always normalises with its
stored statistics, dropout 0.2 before the head. Adam 1e-3 (eps 1e-7), batch 32,
10 epochs. The frozen prefix runs once per image and its output stays in memory.

Prints the seconds of each part, peak memory and accuracy after the last epoch.
"start" is from the first line of this script, so it has the imports.

benches/README.md has what was measured.

    python benches/peers/finetune_torch.py [--seed N] [--cut 5.2|5.3|6|head]
        [--lr X] [--epochs N] [--batch N] [--random-weights]
"""

import time

BEGIN = time.perf_counter()

import argparse
import resource
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parents[2]
DATA = ROOT / "experiments" / "data" / "fashion"
WEIGHTS = ROOT / "experiments" / "weights" / "efficientnet_lite0.safetensors"


class Clock:
    def __init__(self):
        self.last = BEGIN

    def __call__(self, what):
        now = time.perf_counter()
        print(f"{what:12} {now - self.last:7.3f} s")
        self.last = now


def read(split):
    """Inputs and class numbers of one split."""
    images, labels = [], []
    for label, folder in enumerate(sorted((DATA / split).iterdir())):
        for file in sorted(folder.iterdir()):
            image = Image.open(file).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)
            images.append(np.asarray(image, np.float32))
            labels.append(label)
    pixels = torch.from_numpy((np.stack(images) - 127) / 128)
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def split_network(model, cut):
    """The frozen prefix and the trained layers up to the pooled features."""
    last = list(model.blocks[5])
    tail = [last[2], last[3], model.blocks[6], nn.Sequential(model.conv_head, model.bn2)]
    at = ["5.2", "5.3", "6", "head"].index(cut)
    prefix = [model.conv_stem, model.bn1, *model.blocks[:5], *last[:2], *tail[:at]]
    return nn.Sequential(*prefix), nn.Sequential(*tail[at:], nn.AdaptiveAvgPool2d(1), nn.Flatten())


@torch.no_grad()
def in_batches(network, inputs):
    return torch.cat([network(batch) for batch in inputs.split(50)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cut", default="6", choices=["5.2", "5.3", "6", "head"])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--random-weights", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    clock = Clock()
    clock("start")

    data = {split: read(split) for split in ("train", "valid", "test")}
    clock("data")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if not args.random_weights:
        weights = {k: v.float() for k, v in load_file(WEIGHTS).items()}
        model.load_state_dict({**model.state_dict(), **weights})
    model.eval()  # for BatchNorm: stored statistics throughout
    prefix, tail = split_network(model, args.cut)
    head = nn.Linear(1280, 10)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    clock("network")
    features = {split: in_batches(prefix, x) for split, (x, _) in data.items()}
    clock("prefix")

    labels = {split: y for split, (_, y) in data.items()}
    network = nn.Sequential(tail, head)
    optimizer = torch.optim.Adam(network.parameters(), args.lr, eps=1e-7)
    accuracy = lambda split: (in_batches(network, features[split]).argmax(1)
                              == labels[split]).float().mean().item()
    for epoch in range(args.epochs):
        total = 0.0
        for batch in torch.randperm(len(labels["train"])).split(args.batch):
            pooled = F.dropout(tail(features["train"][batch]), 0.2)
            loss = F.cross_entropy(head(pooled), labels["train"][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        valid = accuracy("valid")
        clock(f"epoch {epoch + 1}")
        print(f"             loss {total / len(labels['train']):.4f}, valid {valid:.4f}")
    test = accuracy("test")
    clock("test")
    print(f"total        {time.perf_counter() - BEGIN:7.3f} s")
    print(f"peak RSS     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:7.1f} MiB")
    print(f"trained {sum(p.numel() for p in network.parameters())} parameters, test {test:.4f}")


if __name__ == "__main__":
    main()
