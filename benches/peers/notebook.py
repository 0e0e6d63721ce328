"""Speed peers of the notebook's two trainings, beyond what is kept of frozen layers.

- head: a dense layer of 256 units with relu, dropout 0.6 and one sigmoid unit on 20,000 saved rows of
  8,192 float32 (655 MB), RMSprop, batches of 32; seconds an epoch by xp and by PyTorch, which holds
  the rows in memory and gathers batches from a random order. xp reads them from the file.
- augmented: VGG16 at 150x150 with 15 frozen rows on sheared, zoomed and mirrored photos, nothing
  kept, the notebook's head, SGD with momentum, batches of 16; seconds a step by xp and by Keras on
  JAX with ImageDataGenerator, whose workers are a thread beside the training.

Two threads, float32, random weights. The median of epochs after the first; the two take turns.

    cargo build --release
    python benches/peers/notebook.py [--xp target/release/xp] [--rounds 2]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import frozen_base

ROOT = Path(__file__).parents[2]
N_ROWS, N_FEATURES, SIZE = 20_000, 8_192, 150
EPOCHS, STEPS = 4, 12

HEAD = """\
name: head
seed: 1
device: cpu
data:
  train: { features: rows/train.npy, labels: rows/train_labels.npy }
  valid: { features: rows/valid.npy, labels: rows/valid_labels.npy }
  batch_size: 32
model:
  head: [flatten, { dense: { units: 256, activation: relu } }, { dropout: 0.6 }, { dense: { units: 1, activation: sigmoid } }]
optimizer: { rmsprop: { learning_rate: 1.0e-5 } }
epochs: 4
"""

AUGMENTED = f"""\
name: augmented
seed: 1
device: cpu
data: {{ train: train, valid: valid, image_size: {SIZE}, resize: nearest, batch_size: 16 }}
model:
  backbone: vgg16
  weights: random
  frozen_layers: 15
  head: [flatten, {{ dense: {{ units: 256, activation: relu }} }}, {{ dropout: 0.5 }}, {{ dense: {{ units: 1, activation: sigmoid }} }}]
preprocess: rescale
augment: {{ shear_radians: 0.2, zoom: 0.2, horizontal_flip: true, interpolation: nearest, fill: nearest }}
optimizer: {{ sgd: {{ learning_rate: 1.0e-4, momentum: 0.9 }} }}
epochs: {EPOCHS}
steps_per_epoch: {STEPS}
validation_steps: 1
cache: {{ enabled: false }}
"""


def write_rows(folder):
    import numpy as np

    rng = np.random.default_rng(0)
    (folder / "rows").mkdir()
    for split, n in [("train", N_ROWS), ("valid", 64)]:
        rows = np.maximum(rng.standard_normal((n, 4, 4, N_FEATURES // 16), dtype=np.float32), 0)
        np.save(folder / f"rows/{split}.npy", rows)
        np.save(folder / f"rows/{split}_labels.npy", rng.integers(0, 2, n))


def xp(args, folder, spec):
    """The epochs' seconds as xp prints them."""
    (folder / "spec.yaml").write_text(spec)
    output = subprocess.run([args.xp, "--home", str(folder / "home"), "run", "spec.yaml"], cwd=folder, check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return [float(seconds) for seconds in re.findall(r"^epoch .* ([0-9.]+) s$", output, re.M)]


def torch_head(folder):
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(frozen_base.THREADS))
    rows = torch.from_numpy(np.load(folder / "rows/train.npy").reshape(N_ROWS, -1))
    labels = torch.from_numpy(np.load(folder / "rows/train_labels.npy").astype("float32"))
    head = nn.Sequential(nn.Linear(N_FEATURES, 256), nn.ReLU(), nn.Dropout(0.6), nn.Linear(256, 1))
    optimizer = torch.optim.RMSprop(head.parameters(), 1e-5, alpha=0.9, eps=1e-7)
    epoch_s = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for batch in torch.randperm(N_ROWS).split(32):
            loss = F.binary_cross_entropy_with_logits(head(rows[batch])[:, 0], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        epoch_s.append(time.perf_counter() - began)
    return epoch_s


def keras_augmented(folder):
    os.environ["KERAS_BACKEND"] = "jax"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(frozen_base.THREADS)])
    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    for layer in base.layers[:15]:
        layer.trainable = False
    layers = keras.layers
    model = keras.Sequential([base, layers.Flatten(), layers.Dense(256, "relu"), layers.Dropout(0.5), layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), "binary_crossentropy", metrics=["accuracy"])
    generator = ImageDataGenerator(rescale=1 / 255, shear_range=0.2, zoom_range=0.2, horizontal_flip=True)
    batches = generator.flow_from_directory(folder / "train", (SIZE, SIZE), class_mode="binary", batch_size=16)
    epoch_s = []
    began = [0.0]
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: began.__setitem__(0, time.perf_counter()),
        on_epoch_end=lambda epoch, logs: epoch_s.append(time.perf_counter() - began[0]))
    model.fit(batches, steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0, callbacks=[watch])
    return epoch_s


PEERS = {"head": torch_head, "augmented": keras_augmented}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xp", default=str(ROOT / "target/release/xp"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", nargs=2, metavar=("JOB", "FOLDER"), help="one peer alone; this is how it is called")
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(PEERS[args.peer[0]](Path(args.peer[1]))))
        return
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = frozen_base.THREADS
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        frozen_base.write_images(folder)
        write_rows(folder)
        for job, spec, peer, unit in [("head", HEAD, "PyTorch", EPOCHS), ("augmented", AUGMENTED, "Keras on JAX", STEPS)]:
            ours, theirs = [], []
            per = 1 if job == "head" else unit
            for _ in range(args.rounds):
                ours.append(statistics.median(xp(args, folder, spec)[1:]) / per)
                output = subprocess.run([sys.executable, __file__, "--peer", job, str(folder)], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout
                theirs.append(statistics.median(json.loads(output.splitlines()[-1])[1:]) / per)
                print(f"{job}: xp {ours[-1]:.3f} s, {peer} {theirs[-1]:.3f} s", file=sys.stderr, flush=True)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            what = "an epoch" if job == "head" else "a step"
            print(f"{job}: xp {statistics.median(ours):.3f} s {what}, {peer} {statistics.median(theirs):.3f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
