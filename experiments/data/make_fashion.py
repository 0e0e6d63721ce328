"""Makes fashion/ and footwear/: small image-folder data sets from Fashion-MNIST.

Fashion-MNIST (MIT licence, Zalando SE) is read from the four IDX files of
Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9-1
(/usr/share/datasets/fashion-mnist). Per class 40 training and 20 validation
images come from its training part and 60 test images from its test part, drawn
without replacement by NumPy's PCG64. An image whose pixels were drawn before,
in any split, is passed over, so no two files of a data set are alike.
File names are the index in the original part.

fashion/ has all ten classes; footwear/ has ankle boots and sneakers alone and
shares no image with fashion/.

Made with Python 3.11.7, numpy 2.4.6, pillow 13.0.0 (zlib-ng as bundled).

    python experiments/data/make_fashion.py
"""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).parent
SEED = 20170825
COUNTS = {"train": 40, "valid": 20, "test": 60}
CLASSES = ["t_shirt", "trouser", "pullover", "dress", "coat",
           "sandal", "shirt", "sneaker", "bag", "ankle_boot"]


def read(part):
    """Images and labels of one original part."""
    with gzip.open(SOURCE / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(SOURCE / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def draw(name, classes, parts, rng, seen):
    """Writes one data set; `seen` holds the pixels of every image drawn so far."""
    root = HERE / name
    for split in COUNTS:
        shutil.rmtree(root / split, ignore_errors=True)
    for label in classes:
        order = {part: iter(rng.permutation(np.flatnonzero(parts[part][1] == label)))
                 for part in ("train", "t10k")}
        for split, count in COUNTS.items():
            part = "t10k" if split == "test" else "train"
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True)
            while count:
                index = int(next(order[part]))
                image = parts[part][0][index]
                if image.tobytes() in seen:
                    continue
                seen.add(image.tobytes())
                Image.fromarray(image).save(folder / f"{index:05}.png", optimize=True)
                count -= 1


def main():
    parts = {part: read(part) for part in ("train", "t10k")}
    seen = set()
    draw("fashion", range(10), parts, np.random.default_rng(SEED), seen)
    draw("footwear", [CLASSES.index("ankle_boot"), CLASSES.index("sneaker")], parts,
         np.random.default_rng(SEED + 1), seen)
    files = sorted(p for n in ("fashion", "footwear") for p in (HERE / n).rglob("*.png"))
    contents = [p.read_bytes() for p in files]
    assert len(set(contents)) == len(files) == 1440
    print(f"{len(files)} files, {sum(map(len, contents))} bytes, SHA-256 of all",
          hashlib.sha256(b"".join(contents)).hexdigest())


if __name__ == "__main__":
    main()
