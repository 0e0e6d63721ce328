"""A GPU's speed with xp and with PyTorch, in turn, on the same jobs.

Builds nothing: takes the binary. Random weights, made-up images as BMP files, 10 classes, batches of 32, SGD with
momentum, norms in inference mode, nothing kept of frozen layers, so that every step runs the whole network.

- forward: images a second through the whole frozen network (`xp summary --cost`).
- frozen 15: training with the first 15 rows of `xp summary` frozen; full: with none frozen. Images a second, the mean of
  all epochs after the first.
- first step: seconds from the start of the program to the end of one step and one batch of validation, with no kernels
  kept on disk (cold) and with those of the run before (warm).
- memory: the most that nvidia-smi shows in use, above what was in use before. xp's allocator keeps what it took.
- agreement: |features on the GPU - on the CPU| / |on the CPU|, Euclidean, over 32 images.

PyTorch: float32 with TF32 products, and bfloat16 autocast; channels_last, cudnn.benchmark; bytes go up from pinned
memory and are normalised on the device, as in xp; the same number of parameters is frozen, in the same order.

    cargo build --release --features cuda
    python benches/gpu/measure.py [--xp target/release/xp] [--only vgg16@150] [--limit 120] [--no-torch]

Needs torch, torchvision, timm and NumPy. A job that takes longer than --limit seconds is ended and left out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
BATCH, STEPS, EPOCHS, N_CLASSES, N_IMAGES = 32, 20, 3, 10, 320
NETWORKS = [("vgg16", 150), ("vgg16", 224), ("resnet50", 224), ("efficientnet_lite0", 224)]

SPEC = """\
name: gpu
seed: 1
device: {device}
data: {{ train: train, valid: valid, image_size: {size}, resize: nearest, batch_size: {batch} }}
model:
  backbone: {network}
  weights: random
  frozen_layers: {frozen}
  head: [global_average_pool, {{ dense: {{ units: 10, activation: softmax }} }}]
preprocess: tf
{more}
optimizer: {{ sgd: {{ learning_rate: 1.0e-6, momentum: 0.9 }} }}
epochs: {epochs}
steps_per_epoch: {steps}
validation_steps: 1
cache: {{ enabled: false }}
augment: {{ horizontal_flip: true }}
"""


def write_images(folder, size):
    rng = np.random.default_rng(0)
    row = (size * 3 + 3) // 4 * 4
    header = b"BM" + (54 + row * size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + size.to_bytes(4, "little") * 2 + (1).to_bytes(2, "little")
    header += (24).to_bytes(2, "little") + bytes(24)
    for i in range(N_IMAGES + BATCH):
        path = folder / f"{'train' if i < N_IMAGES else 'valid'}/{i % N_CLASSES}/{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header + rng.integers(0, 256, row * size, dtype=np.uint8).tobytes())


class Memory:
    """The most that nvidia-smi shows in use while this is entered, in MiB, above what was in use before."""

    def __enter__(self):
        self.before = self.used()
        self.most = self.before
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def watch(self):
        while not self.is_over.wait(0.2):
            self.most = max(self.most, self.used())

    @staticmethod
    def used():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0])

    @property
    def peak(self):
        return self.most - self.before


class Xp:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.kernels = folder / "cache"

    def __call__(self, *command, **spec):
        """Seconds and what was printed; None after the limit."""
        text = SPEC.format(**{"device": "cuda", "batch": BATCH, "epochs": 1, "steps": 1, "frozen": 15, "more": "", **spec})
        (self.folder / "spec.yaml").write_text(text)
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        began = time.perf_counter()
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.kernels)}
        try:
            done = subprocess.run([self.args.xp, "--home", str(self.folder / "home"), *command], cwd=self.folder,
                                  capture_output=True, text=True, timeout=self.args.limit, env=environment)
        except subprocess.TimeoutExpired:
            print(f"  xp {command[0]} {spec}: more than {self.args.limit} s", file=sys.stderr, flush=True)
            return None
        if done.returncode != 0:
            print(f"  xp {command[0]} {spec}: {done.stderr[-1500:]}", file=sys.stderr, flush=True)
            return None
        return time.perf_counter() - began, done.stdout

    def first_step(self, **spec):
        done = self("run", "spec.yaml", **spec)
        return done and round(done[0], 2)

    def training(self, **spec):
        """Images a second of the epochs after the first, from the run's log."""
        if self("run", "spec.yaml", epochs=EPOCHS, steps=STEPS, **spec) is None:
            return None
        log = next((self.folder / "home/runs").glob("*/log.jsonl")).read_text().splitlines()
        ends = {}
        for entry in map(json.loads, log):
            phase = str(entry.get("span", {}).get("phase", ""))
            if entry["fields"].get("message") == "close" and phase.startswith(("Train", "Valid")):
                epoch = int(phase.split("epoch: ")[1].split(",")[0])
                ends[phase[:5], epoch] = datetime.fromisoformat(entry["timestamp"]).timestamp()
        seconds = [ends["Train", epoch] - ends["Valid", epoch - 1] for epoch in range(2, EPOCHS + 1)]
        return round(BATCH * STEPS * len(seconds) / sum(seconds))

    def forward(self, **spec):
        done = self("summary", "spec.yaml", "--cost", "--json", frozen="all", **spec)
        return done and round(json.loads(done[1])["cost"]["images_per_second"])

    def n_frozen(self, **spec):
        return json.loads(self("summary", "spec.yaml", "--json", device="cpu", **spec)[1])["frozen_parameters"]

    def features(self, device, **spec):
        output = self.folder / f"features-{device}"
        shutil.rmtree(output, ignore_errors=True)
        if self("features", "spec.yaml", "-o", str(output), device=device, frozen="all", **spec) is None:
            return None
        return np.load(output / "train.npy")[:32].astype(np.float64)

    def agreement(self, **spec):
        here, there = self.features("cpu", **{**spec, "more": ""}), self.features("cuda", **spec)
        return None if there is None or here is None else float(np.linalg.norm(there - here) / np.linalg.norm(here))


def torch_jobs(network, size, n_frozen):
    """Images a second of each job, and MiB reserved by the largest."""
    import torch
    from torch.nn import functional as F

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.cuda.reset_peak_memory_stats()
    if network == "efficientnet_lite0":
        import timm
        model = timm.create_model("efficientnet_lite0", num_classes=N_CLASSES)
    elif network == "resnet50":
        import torchvision
        model = torchvision.models.resnet50(num_classes=N_CLASSES)
    else:
        import torchvision
        features = torchvision.models.vgg16().features
        model = torch.nn.Sequential(features, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, N_CLASSES))
    model = model.cuda().to(memory_format=torch.channels_last).eval()
    norms = {p for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    pixels = torch.randint(0, 256, (BATCH, size, size, 3), dtype=torch.uint8).pin_memory()
    labels = torch.randint(0, N_CLASSES, (BATCH,)).cuda()

    def images():
        return (pixels.cuda(non_blocking=True).permute(0, 3, 1, 2).float() - 127.5) / 127.5

    def timed(step, n):
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(n):
            step()
        torch.cuda.synchronize()
        return round(n * BATCH / (time.perf_counter() - began))

    speeds = {}
    for name, bf16 in [("tf32", False), ("bf16", True)]:
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                speeds[f"forward {name}"] = timed(lambda: model(images()), 40)
            for job, limit in [("frozen 15", n_frozen), ("full", 0)]:
                counted = 0
                for parameter in model.parameters():
                    counted += parameter.numel()
                    parameter.requires_grad = counted > limit and parameter not in norms
                trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
                optimizer = torch.optim.SGD(trained, 1e-6, momentum=0.9)

                def step():
                    loss = F.cross_entropy(model(images()), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

                speeds[f"{job} {name}"] = timed(step, STEPS)
    speeds["memory MiB"] = torch.cuda.max_memory_reserved() >> 20
    return speeds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xp", default=str(ROOT / "target/release/xp"))
    parser.add_argument("--only", help="one network and size, as vgg16@150")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a job of xp may take")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--peer", nargs=3, metavar=("NETWORK", "SIZE", "N_FROZEN"), help="one peer alone; this is how it is called")
    args = parser.parse_args()
    args.xp = str(Path(args.xp).resolve())
    if args.peer:
        print(json.dumps(torch_jobs(args.peer[0], int(args.peer[1]), int(args.peer[2]))))
        return
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], check=True,
                         capture_output=True, text=True).stdout.strip()
    print(gpu, flush=True)
    for network, size in NETWORKS:
        if args.only not in (None, f"{network}@{size}"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            write_images(folder, size)
            xp = Xp(args, folder)
            job = {"network": network, "size": size}
            result = {"job": f"{network}@{size}"}

            def tell(name, value):
                result[name] = value
                print(f"  {name}: {value}", file=sys.stderr, flush=True)

            with Memory() as memory:
                tell("first step cold s", xp.first_step(**job))
                tell("first step warm s", xp.first_step(**job))
                tell("frozen 15", xp.training(**job))
                tell("full", xp.training(frozen=0, **job))
                tell("forward", xp.forward(**job))
            tell("memory MiB", memory.peak)
            with_bf16 = {**job, "more": "precision: { prefix: bf16 }"}
            tell("forward bf16", xp.forward(**with_bf16))
            tell("agreement", xp.agreement(**job))
            tell("agreement bf16", xp.agreement(**with_bf16))
            if not args.no_torch:
                peer = subprocess.run([sys.executable, __file__, "--peer", network, str(size), str(xp.n_frozen(**job))],
                                      capture_output=True, text=True)
                tell("PyTorch", json.loads(peer.stdout) if peer.returncode == 0 else peer.stderr[-1500:])
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
