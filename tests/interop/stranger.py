"""Writes inference for an export from its sidecar alone, as somebody who was handed the two files would.

    python tests/interop/stranger.py photos PHOTO FOLDER        20 cuts of a photo, as PNG and as JPEG
    python tests/interop/stranger.py check FOLDER EXPORT…       answers of exports for them, against FOLDER/EXPORT.answers.json

An EXPORT ends in .keras, .h5 or .weights.h5 (Keras, on the backend that KERAS_BACKEND names) or .safetensors (PyTorch, with
torchvision or timm as the sidecar says). The answers are `xp predict --json --top 1000` of the same images. Tested with
keras 3.15.1 on jax 0.10.2, keras 3.3.3 and 3.8.0 on jax 0.4.30, torch 2.15.0, timm 1.0.31, Pillow 13.0.
"""

import json
import os
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

N_PHOTOS = 20
# The largest difference of log-probabilities, which is that of logits but for a constant.
TOLERANCE = 1e-3


def photos(photo, folder):
    """Cuts of other places, sizes and shapes; JPEG with halved chroma, as cameras write it."""
    image = Image.open(photo).convert("RGB")
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(N_PHOTOS):
        width, height = 90 + 13 * i, 300 - 11 * i
        left = (37 * i) % (image.width - width)
        top = (53 * i) % (image.height - height)
        cut = image.crop((left, top, left + width, top + height))
        cut.save(folder / f"{i:02}.png")
        cut.save(folder / f"{i:02}.jpg", quality=90, subsampling="4:2:0")


def prepared(path, sidecar):
    """One image as the network takes it, step by step as the sidecar lists them."""
    batch = None
    for step in sidecar["preprocessing"]:
        match step["step"]:
            case "decode":
                image = Image.open(path)
                if step["exif_orientation"].startswith("applied"):
                    image = ImageOps.exif_transpose(image)
                image = image.convert("RGB")
            case "resize":
                image = image.resize((step["width"], step["height"]), Image.Resampling[step["filter"].upper()])
            case "crop":
                assert step["to"].startswith("none"), step
            case "order":
                values = np.asarray(image, dtype=np.float32)
                values = values if step["channels"] == "RGB" else values[..., ::-1]
            case "normalize":
                values = (values - np.float32(step["mean"])) / np.float32(step["std"])
                batch = values[None]
    if sidecar["input"]["axes"] == "batch, channels, height, width":
        batch = batch.transpose(0, 3, 1, 2)
    shape = sidecar["input"]["shape"]
    assert list(batch.shape[1:]) == shape[1:], (batch.shape, shape)
    return np.ascontiguousarray(batch, dtype=np.float32)


def by_keras(path):
    import keras

    if path.name.endswith(".weights.h5"):
        architecture = json.loads(path.with_name(path.name.replace(".weights.h5", "-kh5.json")).read_text())
        model = keras.models.model_from_json(json.dumps(architecture))
        model.load_weights(path)
    else:
        model = keras.models.load_model(path, compile=False)
    return lambda batch: keras.ops.convert_to_numpy(model(batch, training=False))


def by_torch(path, sidecar):
    import safetensors.torch
    import torch
    import torch.nn

    package = sidecar["framework"]["package"]
    names = {"torch": torch, "safetensors": safetensors}
    if package == "timm":
        import timm as framework
    else:
        import torchvision as framework
    names[package] = framework
    for line in (sidecar["framework"]["build"], sidecar["framework"]["load"].replace("FILE", repr(str(path)))):
        exec(line, names)  # noqa: S102: the sidecar's own lines are what is tested
    model = names["model"]

    def answer(batch):
        with torch.no_grad():
            logits = model(torch.from_numpy(batch)).numpy().astype(np.float64)
        if sidecar["output"]["activation"] == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    return answer


def named(output, sidecar):
    """Probabilities by class."""
    if sidecar["output"]["activation"] == "sigmoid":
        one = float(output[0])
        return {sidecar["output"]["class_of_one"]: one, sidecar["output"]["class_of_zero"]: 1 - one}
    return dict(zip(sidecar["classes"], map(float, output), strict=True))


def check(folder, export):
    path = folder / export
    sidecar = json.loads((folder / f"{export}.json").read_text())
    answer = by_torch(path, sidecar) if export.endswith(".safetensors") else by_keras(path)
    answers = json.loads((folder / f"{export}.answers.json").read_text())["images"]
    assert len(answers) == 2 * N_PHOTOS, len(answers)
    gaps = {".png": 0.0, ".jpg": 0.0}
    outputs = answer(np.concatenate([prepared(folder / expected["path"], sidecar) for expected in answers]))
    # Below this f32 has no digits left to compare; what is left of one sigmoid has fewer.
    least = 1e-2 if sidecar["output"]["activation"] == "sigmoid" else 1e-5
    for expected, output in zip(answers, outputs, strict=True):
        image = pathlib.Path(expected["path"])
        found = named(output, sidecar)
        best = max(found, key=found.get)
        assert best == expected["top"][0]["class"], (export, image.name, best, expected["top"][0])
        for entry in expected["top"]:
            if entry["probability"] > least:
                gap = abs(np.log(found[entry["class"]]) - np.log(entry["probability"]))
                gaps[image.suffix] = max(gaps[image.suffix], gap)
    print(f"{export}: {len(answers)} images, same top-1; log-probabilities within {gaps['.png']:.1e} (PNG), {gaps['.jpg']:.1e} (JPEG)")
    assert gaps[".png"] < TOLERANCE, gaps


def main():
    if sys.argv[1] == "photos":
        photos(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
        return
    os.environ.setdefault("KERAS_BACKEND", "jax")
    for export in sys.argv[3:]:
        check(pathlib.Path(sys.argv[2]), export)
    print("ok")


if __name__ == "__main__":
    main()
