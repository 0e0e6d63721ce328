"""Speed peer: a job whose whole base is frozen, end to end, by xp, PyTorch and Keras.

VGG16 without its dense layers at 150x150, all of it frozen with random weights; 600
training and 200 validation photos of two classes, cut from tests/fixtures/coffee.png
and saved as JPEG; the head of experiments/notebook/head.yaml (flatten, 256 units,
dropout 0.6, one sigmoid unit; RMSprop 1e-4, batches of 32), 20 epochs, validation
after each. Two threads, float32.

xp runs twice in one home: first it computes what the base gives, then it finds it.
PyTorch is written in the two ways that people write it: the base runs in every epoch
(a few epochs are timed and the rest is multiplied), or its output is extracted once
and kept in memory; channels_last, without gradients, images decoded by Pillow in the
way of torchvision's ImageFolder. Keras on JAX extracts once with predict() and fits
the head. Times are of whole processes, imports included.

    cargo build --release
    python benches/peers/frozen_base.py [--xp target/release/xp] [--rounds 1]
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

ROOT = Path(__file__).parents[2]
THREADS = "2"
SIZE, EPOCHS, BATCH, TIMED_EPOCHS = 150, 20, 32, 2
N_IMAGES = {"train": 300, "valid": 100}

SPEC = f"""\
name: frozen-base
seed: 1
device: cpu
data: {{ train: train, valid: valid, image_size: {SIZE}, resize: bilinear, batch_size: {BATCH} }}
model:
  backbone: vgg16
  weights: random
  frozen_layers: all
  head: [flatten, {{ dense: {{ units: 256, activation: relu }} }}, {{ dropout: 0.6 }}, {{ dense: {{ units: 1, activation: sigmoid }} }}]
preprocess: rescale
optimizer: {{ rmsprop: {{ learning_rate: 1.0e-4 }} }}
epochs: {EPOCHS}
"""


def write_images(folder):
    from PIL import Image

    drawn = random.Random(0)
    coffee = Image.open(ROOT / "tests/fixtures/coffee.png").convert("RGB")
    for split, n_images in N_IMAGES.items():
        for label, name in enumerate(["cats", "dogs"]):
            target = folder / split / name
            target.mkdir(parents=True)
            for i in range(n_images):
                left, top = drawn.randrange(coffee.width - 320), drawn.randrange(coffee.height - 240)
                cut = coffee.crop((left, top, left + 320, top + 240)).rotate(180 * label)
                cut.save(target / f"{i}.jpg", quality=90)


def read(folder, split):
    """Pixels [n, 3, 150, 150] from 0 to 1, and labels."""
    import numpy as np
    import torch
    from PIL import Image

    images, labels = [], []
    for label, name in enumerate(["cats", "dogs"]):
        for path in sorted((folder / split / name).iterdir()):
            image = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            labels.append(float(label))
    return torch.stack(images), torch.tensor(labels)


def by_torch(folder, extract_once):
    import torch
    import torchvision
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(THREADS))
    last = torch.channels_last
    base = torchvision.models.vgg16(weights=None).features.eval().to(memory_format=last)
    head = nn.Sequential(nn.Flatten(), nn.Linear(512 * 4 * 4, 256), nn.ReLU(), nn.Dropout(0.6), nn.Linear(256, 1))
    optimizer = torch.optim.RMSprop(head.parameters(), 1e-4, alpha=0.9, eps=1e-7)
    data = {split: read(folder, split) for split in N_IMAGES}

    @torch.no_grad()
    def features(pixels):
        return base((pixels.float() / 255).contiguous(memory_format=last)).contiguous()

    if extract_once:
        data = {
            split: (torch.cat([features(batch) for batch in pixels.split(BATCH)]), labels)
            for split, (pixels, labels) in data.items()
        }
    given = (lambda batch: batch) if extract_once else features
    epoch_s = []
    for _ in range(EPOCHS if extract_once else TIMED_EPOCHS):
        began = time.perf_counter()
        head.train()
        inputs, labels = data["train"]
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = F.binary_cross_entropy_with_logits(head(given(inputs[batch]))[:, 0], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        head.eval()
        inputs, labels = data["valid"]
        with torch.no_grad():
            for batch in torch.arange(len(labels)).split(BATCH):
                F.binary_cross_entropy_with_logits(head(given(inputs[batch]))[:, 0], labels[batch]).item()
        epoch_s.append(time.perf_counter() - began)
    return {"untimed_s": (EPOCHS - len(epoch_s)) * statistics.median(epoch_s)}


def by_keras(folder):
    os.environ["KERAS_BACKEND"] = "jax"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(THREADS)])
    import keras

    data = {split: read(folder, split) for split in N_IMAGES}
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    data = {
        split: (base.predict(pixels.permute(0, 2, 3, 1).numpy().astype("float32") / 255, BATCH, verbose=0), labels.numpy())
        for split, (pixels, labels) in data.items()
    }
    layers = keras.layers
    head = keras.Sequential([layers.Flatten(), layers.Dense(256, "relu"), layers.Dropout(0.6), layers.Dense(1, "sigmoid")])
    head.compile(keras.optimizers.RMSprop(1e-4), "binary_crossentropy", metrics=["accuracy"])
    head.fit(*data["train"], batch_size=BATCH, epochs=EPOCHS, validation_data=data["valid"], verbose=0)
    return {"untimed_s": 0.0}


PEERS = {
    "PyTorch, base in every epoch": lambda folder: by_torch(folder, extract_once=False),
    "PyTorch, extracted once": lambda folder: by_torch(folder, extract_once=True),
    "Keras on JAX, extracted once": by_keras,
}


def timed(command, **settings):
    began = time.perf_counter()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **settings).stdout
    return time.perf_counter() - began, output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xp", default=str(ROOT / "target/release/xp"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "FOLDER"), help="one peer alone; this is how it is called")
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(PEERS[args.peer[0]](Path(args.peer[1]))))
        return
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = THREADS
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_images(folder)
        (folder / "spec.yaml").write_text(SPEC)
        for number in range(args.rounds):
            home = folder / f"home{number}"
            for name in ("xp, nothing kept yet", "xp, kept by the run before"):
                took, _ = timed([args.xp, "--home", str(home), "run", "spec.yaml"], cwd=folder)
                seconds.setdefault(name, []).append(took)
                print(f"{name}: {took:.1f} s", file=sys.stderr, flush=True)
            for name in PEERS:
                took, output = timed([sys.executable, __file__, "--peer", name, str(folder)])
                seconds.setdefault(name, []).append(took + json.loads(output.splitlines()[-1])["untimed_s"])
                print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    ours = statistics.median(seconds["xp, nothing kept yet"])
    print("| by | seconds | of xp's |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {statistics.median(times):.1f} | {statistics.median(times) / ours:.2f} |")


if __name__ == "__main__":
    main()
