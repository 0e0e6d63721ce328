"""Makes imagenet_classes.tsv: `index<TAB>wordnet id<TAB>name`, 1000 lines.

Names from torchvision (BSD-3-Clause), WordNet ids from timm (Apache-2.0).
Every line is checked against timm's lemmas of the WordNet id.

Made with torchvision 0.29.2 and timm 1.0.31.

    python experiments/weights/imagenet_classes.py
"""

from pathlib import Path

from timm.data import ImageNetInfo
from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

OUT = Path(__file__).with_name("imagenet_classes.tsv")
info = ImageNetInfo("imagenet-1k")
ids = info.label_names()
assert len(ids) == len(NAMES) == 1000 and len(set(ids)) == 1000 and ids == sorted(ids)
for index, name in enumerate(NAMES):
    lemmas = info.index_to_description(index, detailed=False)
    # torchvision tells the two cranes, maillots and corn/ear apart in its own words
    if name.lower() not in lemmas.lower():
        print(f"{index}: torchvision says {name!r}, WordNet {lemmas!r}")
OUT.write_text("".join(f"{i}\t{w}\t{n}\n" for i, (w, n) in enumerate(zip(ids, NAMES))), encoding="utf-8")
