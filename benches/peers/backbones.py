"""Speed peer: images a second through every backbone by xp, PyTorch and Keras, in turn.

forward: the backbone without its classifier, without gradients. step: all stages but
the last are frozen and run without gradients; the last one and a softmax over ten
classes on pooled features train by SGD with momentum; batch norms keep their stored
statistics. 16 images a batch, float32, two threads on the CPU, random weights.
PyTorch's networks are torchvision's and timm's in channels_last, its faster memory
order here, as the first rounds of forward show in both; Keras' are
keras.applications' compiled by JAX, where it has the network.

Each round measures every network once by each, in turn, after one that is not
counted; printed are medians and how many times the fastest peer's speed ours is.

    cargo bench --bench backbones --no-run     # prints the path that is asked for
    python benches/peers/backbones.py PATH [--rounds 3] [--only vgg16,resnet18]
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
from torch import nn
from torch.nn import functional as F

BATCH, N_CLASSES = 16, 10
SIZES = {
    "vgg11": 150, "vgg13": 150, "vgg16": 150, "vgg19": 150,
    "resnet18": 224, "resnet34": 224, "resnet50": 224, "mobilenet_v2": 224,
    "efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260,
    "efficientnet_lite3": 280, "efficientnet_lite4": 300,
}
# The last stage's first layer in keras.applications, and the network.
KERAS = {
    "vgg16": ("VGG16", "block5_conv1"),
    "vgg19": ("VGG19", "block5_conv1"),
    "resnet50": ("ResNet50", "conv5_block1_1_conv"),
    "mobilenet_v2": ("MobileNetV2", "Conv_1"),
}


def parts(name):
    """All stages but the last, the last, and its channels."""
    if name.startswith("vgg"):
        layers = list(getattr(torchvision.models, name)(weights=None).features)
        pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        at, n_out = pools[-2] + 1, 512
    elif name.startswith("resnet"):
        net = getattr(torchvision.models, name)(weights=None)
        layers = [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]
        at, n_out = len(layers) - 1, net.fc.in_features
    elif name == "mobilenet_v2":
        layers = list(torchvision.models.mobilenet_v2(weights=None).features)
        at, n_out = len(layers) - 1, 1280
    else:
        net = timm.create_model(f"tf_{name}", pretrained=False)
        layers = [net.conv_stem, net.bn1, *net.blocks, net.conv_head, net.bn2]
        at, n_out = len(layers) - 2, 1280
    return nn.Sequential(*layers[:at]), nn.Sequential(*layers[at:]), n_out


def pixels(name):
    size = SIZES[name]
    return np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)


def by_torch(kind, name, memory_format=torch.channels_last):
    frozen, last, n_out = parts(name)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_out, N_CLASSES))
    for part in (frozen, last, head):
        part.eval().to(memory_format=memory_format)
    trained = [p for module in (*last.modules(), *head.modules())
               if isinstance(module, (nn.Conv2d, nn.Linear)) for p in module.parameters()]
    for parameter in last.parameters():
        parameter.requires_grad_(any(parameter is p for p in trained))
    optimizer = torch.optim.SGD(trained, 1e-4, momentum=0.9)
    bytes_nhwc, labels = torch.from_numpy(pixels(name)), torch.arange(BATCH) % N_CLASSES

    def run():
        images = (bytes_nhwc.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=memory_format)
        with torch.no_grad():
            features = frozen(images)
            if kind == "forward":
                last(features)
                return
        loss = F.cross_entropy(head(last(features)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def by_keras(kind, name):
    size = SIZES[name]
    network, first_trained = KERAS[name]
    base = getattr(keras.applications, network)(weights=None, include_top=False, input_shape=(size, size, 3))
    images, labels = pixels(name), np.arange(BATCH) % N_CLASSES
    if kind == "forward":
        return lambda: base.predict_on_batch(images.astype(np.float32) / 127.5 - 1)
    is_trained = False
    for layer in base.layers:
        is_trained = is_trained or layer.name == first_trained
        layer.trainable = is_trained and not isinstance(layer, keras.layers.BatchNormalization)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.input, keras.layers.Dense(N_CLASSES, "softmax")(pooled))
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), "sparse_categorical_crossentropy")
    return lambda: model.train_on_batch(images.astype(np.float32) / 127.5 - 1, labels)


def speed(run):
    began = time.perf_counter()
    run()
    return BATCH / (time.perf_counter() - began)


def xp_speed(path, kind, name):
    """The binary does a round of its own that is not counted."""
    output = subprocess.run([path, "--rounds", "1", kind, name], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)["results"][0]["images_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("xp", metavar="PATH", help="the built benches/backbones.rs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="some networks, with commas between them")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    names = args.only.split(",") if args.only else list(SIZES)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, "
          f"keras {keras.__version__}; images a second, medians of {args.rounds}")
    for kind in ("forward", "step"):
        print(f"\n| {kind} | xp | PyTorch | Keras on JAX | xp / the faster |\n|---|---|---|---|---|")
        for name in names:
            peers = [by_torch(kind, name)] + ([by_keras(kind, name)] if name in KERAS else [])
            for peer in peers:
                peer()
            rounds = []
            for _ in range(args.rounds):
                rounds.append([xp_speed(args.xp, kind, name), *(speed(peer) for peer in peers)])
            ours, *theirs = [statistics.median(speeds) for speeds in zip(*rounds)]
            ratio = statistics.median(one[0] / max(one[1:]) for one in rounds)
            keras_speed = f"{theirs[1]:.1f}" if len(theirs) > 1 else "–"
            print(f"| {name} at {SIZES[name]} | {ours:.1f} | {theirs[0]:.1f} | {keras_speed} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
