"""The same VGG16 in every kind of file that xp reads: are the features the same, and how long does it take?

One network with random weights (57 MB without its dense layers) is written by Keras
as .h5 of the whole model, .weights.h5 and .keras, and, its axes turned, by PyTorch as
.pth in both containers and by safetensors. For each file `xp features` runs over
eight photos at 150x150, rescaled to 0..1, and train.npy is held against Keras'
predict(): printed are the largest difference over the largest value and the seconds
of the whole process, beside those in which Keras or PyTorch load the file alone.

    cargo build --release
    python benches/peers/weight_files.py [--xp target/release/xp]
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
SIZE = 150

SPEC = f"""\
name: weight-files
device: cpu
data: {{ train: train, valid: valid, image_size: {SIZE}, resize: bilinear, allow_duplicates: true }}
model: {{ backbone: vgg16, weights: random, frozen_layers: all }}
preprocess: rescale
cache: {{ enabled: false }}
epochs: 1
"""


def write_images(folder):
    coffee = Image.open(ROOT / "tests/fixtures/coffee.png").convert("RGB")
    images = []
    for split in ("train", "valid"):
        for label in "ab":
            (folder / split / label).mkdir(parents=True)
            for i in range(4 if split == "train" else 1):
                cut = coffee.crop((20 * i, 10 * i, 300 + 20 * i, 200 + 10 * i)).resize((SIZE, SIZE))
                if label == "b":
                    cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                cut.save(folder / split / label / f"{i}.png")
                if split == "train":
                    images.append(np.asarray(cut, np.float32) / 255)
    return np.stack(images)


def networks():
    """Keras' network, and the same one as torchvision has it."""
    ours = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    theirs = torchvision.models.vgg16(weights=None).features
    convolutions = [layer for layer in theirs if isinstance(layer, torch.nn.Conv2d)]
    layers = [layer for layer in ours.layers if isinstance(layer, keras.layers.Conv2D)]
    rng = np.random.default_rng(0)
    for layer, convolution in zip(layers, convolutions, strict=True):
        kernel = rng.normal(0, np.sqrt(2 / np.prod(layer.kernel.shape[:3])), layer.kernel.shape).astype(np.float32)
        bias = rng.normal(0, 0.1, layer.bias.shape).astype(np.float32)
        layer.set_weights([kernel, bias])
        with torch.no_grad():
            convolution.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
            convolution.bias.copy_(torch.from_numpy(bias))
    return ours, {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}


def write(folder, ours, theirs):
    """Each file with whose it is and what loads it."""
    ours.save(folder / "whole.h5")
    ours.save_weights(folder / "vgg16.weights.h5")
    ours.save(folder / "vgg16.keras")
    torch.save(theirs, folder / "zip.pth")
    torch.save(theirs, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(theirs, folder / "vgg16.safetensors")
    keras_model = lambda path: keras.models.load_model(path, compile=False)
    tensors = lambda path: torch.load(path, weights_only=True)
    return {
        "whole.h5": ("vgg16.keras", keras_model),
        "vgg16.weights.h5": ("vgg16.keras", ours.load_weights),
        "vgg16.keras": ("vgg16.keras", keras_model),
        "zip.pth": ("vgg16.torchvision", tensors),
        "legacy.pth": ("vgg16.torchvision", tensors),
        "vgg16.safetensors": ("vgg16.torchvision", load_file),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xp", default=str(ROOT / "target/release/xp"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images = write_images(folder)
        ours, theirs = networks()
        expected = ours.predict(images, verbose=0)
        (folder / "spec.yaml").write_text(SPEC)
        print("| file | MB | largest difference / largest value | xp features | load by its own library |\n|---|---|---|---|---|")
        for name, (source, load) in write(folder, ours, theirs).items():
            path, out = folder / name, folder / f"features-{name}"
            weights = f"model.weights={{ file: {path}, as: {source} }}"
            began = time.perf_counter()
            subprocess.run([args.xp, "features", "spec.yaml", "-o", str(out), "--set", weights], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            took = time.perf_counter() - began
            found = np.load(out / "train.npy")
            distance = np.abs(found - expected).max() / np.abs(expected).max()
            began = time.perf_counter()
            load(str(path))
            loaded = time.perf_counter() - began
            print(f"| {name} | {path.stat().st_size / 1e6:.0f} | {distance:.1e} | {took:.2f} s | {loaded:.2f} s |", flush=True)
            assert distance < 1e-4, name


if __name__ == "__main__":
    main()
