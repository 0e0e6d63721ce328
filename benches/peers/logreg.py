"""Reference accuracy on experiments/data/fashion: logistic regression.

scikit-learn's LogisticRegression(C=0.1, max_iter=2000) on
  1. EfficientNet-Lite0's 1280 pooled features, as they come (the reference),
  2. the same features, standardised,
  3. raw pixels divided by 255.
Input of the network: gray copied to RGB, squashed to 96x96 by Pillow's bicubic
filter, (x - 127) / 128; weights from experiments/weights.

Measured with the versions in requirements.txt (400 training images):
  pooled features                valid 0.8100  test 0.7683
  pooled features, standardised  valid 0.8300  test 0.7583
  raw pixels / 255               valid 0.7900  test 0.7733

    python benches/peers/logreg.py
"""

import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).parents[2]
DATA = ROOT / "experiments" / "data" / "fashion"
WEIGHTS = ROOT / "experiments" / "weights" / "efficientnet_lite0.safetensors"


def read(split):
    """Gray images and class numbers of one split, in file-name order."""
    images, labels = [], []
    for label, folder in enumerate(sorted((DATA / split).iterdir())):
        for file in sorted(folder.iterdir()):
            images.append(Image.open(file).convert("RGB"))
            labels.append(label)
    return images, np.array(labels)


@torch.no_grad()
def pooled(model, images):
    pixels = np.stack([np.asarray(i.resize((96, 96), Image.Resampling.BICUBIC), np.float32)
                       for i in images])
    inputs = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2)
    return torch.cat([model.forward_head(model.forward_features(batch), pre_logits=True)
                      for batch in inputs.split(50)]).numpy()


def main():
    torch.set_num_threads(2)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    weights = {k: v.float() for k, v in load_file(WEIGHTS).items()}
    model.load_state_dict({**model.state_dict(), **weights})

    splits = {split: read(split) for split in ("train", "valid", "test")}
    labels = {split: y for split, (_, y) in splits.items()}
    features = {split: pooled(model, x) for split, (x, _) in splits.items()}
    scaler = StandardScaler().fit(features["train"])
    inputs = {
        "pooled features": features,
        "pooled features, standardised": {s: scaler.transform(x) for s, x in features.items()},
        "raw pixels / 255": {s: np.stack([np.asarray(i.convert("L"), np.float32).ravel() / 255
                                          for i in x]) for s, (x, _) in splits.items()},
    }
    for name, x in inputs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            fit = LogisticRegression(C=0.1, max_iter=2000).fit(x["train"], labels["train"])
        print(f"{name}: " + ", ".join(f"{s} {fit.score(x[s], labels[s]):.4f}" for s in x))


if __name__ == "__main__":
    main()
