"""Training steps after the frozen layers by xp and by PyTorch, in turn: medians and their ratios.

    python benches/peers/suffix.py [--rounds 3] [--bench BINARY]

Both take the same steps on inputs in memory, two threads, float32, batch norms with
their stored statistics:

- VGG16 block5: three 3x3 convolutions on [16, 512, 9, 9], the pool, flatten, dense 256
  with relu, dense 1 with binary cross entropy; SGD with momentum 0.9.
- Lite0 blocks.6: the last two stages of EfficientNet-Lite0 on [32, 192, 7, 7], pooled,
  dense 10 with cross entropy; Adam.
- head: flatten of [32, 512, 4, 4], dense 256 with relu, dense 1; RMSprop.

A round is a process of each; a process gives the median and the fastest of its steps. xp is built by
`cargo bench --bench suffix`, which the first round waits for, unless BINARY is one that
was. PyTorch runs with its own order of axes and with channels_last; the ratio is to the
faster. Versions are those of requirements.txt.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
THREADS = 2
N_WARM_UP, N_TIMED = 2, 9


def cases(torch):
    import timm
    from torch import nn

    convolutions = [layer for _ in range(3) for layer in (nn.Conv2d(512, 512, 3, padding=1), nn.ReLU())]
    head = lambda: [nn.Flatten(), nn.Linear(8192, 256), nn.ReLU(), nn.Linear(256, 1)]
    block5 = nn.Sequential(*convolutions, nn.MaxPool2d(2), *head())
    yield ("VGG16 block5", block5, (16, 512, 9, 9), 2,
           torch.optim.SGD(block5.parameters(), lr=1e-4, momentum=0.9))
    lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    last = nn.Sequential(lite0.blocks[6], lite0.conv_head, lite0.bn2, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(1280, 10))
    for module in last.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    trained = [value for value in last.parameters() if value.requires_grad]
    yield "Lite0 blocks.6", last, (32, 192, 7, 7), 10, torch.optim.Adam(trained, lr=1e-4, eps=1e-7)
    alone = nn.Sequential(*head())
    yield ("head", alone, (32, 512, 4, 4), 2,
           torch.optim.RMSprop(alone.parameters(), lr=1e-4, alpha=0.9, eps=1e-7))


def pytorch():
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(THREADS)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        for name, network, shape, n_classes, optimizer in cases(torch):
            network = network.to(memory_format=layout)
            inputs = ((torch.arange(torch.Size(shape).numel()) * 7 % 255) / 255).reshape(shape)
            inputs = inputs.contiguous(memory_format=layout)
            labels = torch.arange(shape[0]) % n_classes
            times_ms = []
            for _ in range(N_WARM_UP + N_TIMED):
                began = time.perf_counter()
                optimizer.zero_grad()
                logits = network(inputs)
                if n_classes == 2:
                    loss = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
                else:
                    loss = F.cross_entropy(logits, labels)
                loss.backward()
                optimizer.step()
                times_ms.append((time.perf_counter() - began) * 1e3)
            layout_name = "" if layout is torch.contiguous_format else ", channels_last"
            timed = times_ms[N_WARM_UP:]
            print(json.dumps({"case": name, "peer": f"PyTorch{layout_name}", "fastest_ms": min(timed),
                              "median_ms": statistics.median(timed)}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bench", metavar="BINARY", help="a built bench, in place of cargo")
    parser.add_argument("--pytorch", action="store_true", help="PyTorch alone; this is how it is called for a round")
    args = parser.parse_args()
    if args.pytorch:
        return pytorch()
    xp = [args.bench] if args.bench else ["cargo", "bench", "--quiet", "--bench", "suffix", "--"]
    xp += ["--rounds", str(N_TIMED)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS)}
    run = lambda command: subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
                                         check=True).stdout.splitlines()
    rounds = []
    for _ in range(args.rounds):
        times = {}
        for result in json.loads(run(xp)[-1])["results"]:
            times.setdefault(result["case"], {})["xp"] = result
        for line in run([sys.executable, __file__, "--pytorch"]):
            result = json.loads(line)
            times[result["case"]][result["peer"]] = result
        rounds.append(times)
    for case in rounds[0]:
        print(case)
        for measure in ("median_ms", "fastest_ms"):
            told = []
            for who in rounds[0][case]:
                times_ms = [times[case][who][measure] for times in rounds]
                told.append(f"{who} {statistics.median(times_ms):.1f} ({min(times_ms):.1f} to {max(times_ms):.1f})")
            print(f"  {measure}: {'; '.join(told)}")
            peers = [peer for peer in rounds[0][case] if peer != "xp"]
            ratios = [times[case]["xp"][measure] / min(times[case][peer][measure] for peer in peers)
                      for times in rounds]
            print(f"    xp takes {statistics.median(ratios):.2f} of PyTorch's ({min(ratios):.2f} to {max(ratios):.2f})")
        updates_ms = [times[case]["xp"]["optimizer_median_ms"] for times in rounds]
        print(f"  of xp's median the optimizer: {statistics.median(updates_ms):.1f} ms")


if __name__ == "__main__":
    main()
