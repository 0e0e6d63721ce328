"""Speed peer: images a second through frozen backbones by xp, PyTorch and Keras, in turn.

EfficientNet-Lite0 at 224x224, 32 images a batch, and VGG16 without its dense
layers at 150x150, 16 images a batch; random weights, float32, two threads on
the CPU, without gradients. PyTorch's networks are timm's tf_efficientnet_lite0
and torchvision's vgg16, each in its usual memory order and in channels_last;
Keras' is keras.applications.VGG16 compiled by JAX (it has no EfficientNet-Lite).

Each round measures every network once, in turn, after one that is not counted;
printed are the median, the slowest and the fastest.

    cargo bench --bench forward --no-run     # prints the path that is asked for
    python benches/peers/forward.py [--rounds 5] [PATH]
"""

import os

THREADS = 2
os.environ["KERAS_BACKEND"] = "jax"
# JAX sizes its pool by the processors that it may use.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = str(THREADS)

import argparse
import json
import statistics
import subprocess
import time

import keras
import numpy as np
import timm
import torch
import torchvision

LITE0, VGG16 = "efficientnet_lite0", "vgg16"
CASES = {LITE0: (224, 32), VGG16: (150, 16)}


def pixels(network):
    size, batch = CASES[network]
    return np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)


def timed(network, forward):
    """A function that takes one measure: images a second by network."""
    batch = CASES[network][1]

    def measure():
        began = time.perf_counter()
        forward()
        return {network: batch / (time.perf_counter() - began)}

    return measure


def torch_forward(network, memory_format):
    if network == LITE0:
        module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        features = module.forward_features
    else:
        module = features = torchvision.models.vgg16(weights=None).features
    module.eval().to(memory_format=memory_format)
    images = torch.from_numpy(pixels(network)).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def forward():
        with torch.no_grad():
            features(images)

    return timed(network, forward)


def keras_forward():
    size = CASES[VGG16][0]
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(size, size, 3))
    images = pixels(VGG16)
    return timed(VGG16, lambda: model.predict_on_batch(images))


def xp_forward(path):
    """Both networks at once: the binary does a round of its own that is not counted."""
    def measure():
        output = subprocess.run([path, "--rounds", "1"], check=True, stdout=subprocess.PIPE).stdout
        return {result["network"]: result["images_per_second"] for result in json.loads(output)["results"]}

    return measure


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("xp", nargs="?", metavar="PATH", help="the built benches/forward.rs")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    last = torch.channels_last
    peers = [
        ("PyTorch", torch_forward(LITE0, torch.contiguous_format)),
        ("PyTorch, channels_last", torch_forward(LITE0, last)),
        ("PyTorch", torch_forward(VGG16, torch.contiguous_format)),
        ("PyTorch, channels_last", torch_forward(VGG16, last)),
        ("Keras on JAX", keras_forward()),
    ]
    if args.xp:
        peers.insert(0, ("xp", xp_forward(args.xp)))
    speeds = {}
    for i in range(args.rounds + 1):
        for name, measure in peers:
            for network, speed in measure().items():
                if i > 0:
                    speeds.setdefault((network, name), []).append(speed)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, "
          f"keras {keras.__version__}; images a second")
    print("| network | by | median | slowest | fastest |\n|---|---|---|---|---|")
    for (network, name), found in sorted(speeds.items(), key=lambda item: item[0][0]):
        size, _ = CASES[network]
        numbers = " | ".join(f"{value:.1f}" for value in (statistics.median(found), min(found), max(found)))
        print(f"| {network} at {size} | {name} | {numbers} |")


if __name__ == "__main__":
    main()
