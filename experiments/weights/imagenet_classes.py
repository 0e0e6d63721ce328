"""Makes src/weights/imagenet_classes.tsv: `wordnet id<TAB>name`, 1000 lines in the order of the labels.

Names from torchvision (BSD-3-Clause), WordNet ids from timm (Apache-2.0), spelled as Keras' imagenet_class_index.json
spells them: underscores, and two names twice.
Every line is checked against timm's lemmas of the WordNet id.

Made with torchvision 0.29.2 and timm 1.0.31.

    python experiments/weights/imagenet_classes.py
"""

from pathlib import Path

from timm.data import ImageNetInfo
from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

OUT = Path(__file__).parents[2] / "src" / "weights" / "imagenet_classes.tsv"
IN_KERAS = {"crane bird": "crane", "maillot tank suit": "maillot"}
info = ImageNetInfo("imagenet-1k")
ids = info.label_names()
assert len(ids) == len(NAMES) == 1000 and len(set(ids)) == 1000 and ids == sorted(ids)
for index, name in enumerate(NAMES):
    lemmas = info.index_to_description(index, detailed=False)
    # torchvision tells the two cranes, maillots and corn/ear apart in its own words
    if name.lower() not in lemmas.lower():
        print(f"{index}: torchvision says {name!r}, WordNet {lemmas!r}")
names = [IN_KERAS.get(name, name).replace(" ", "_") for name in NAMES]
OUT.write_text("".join(f"{w}\t{n}\n" for w, n in zip(ids, names)), encoding="utf-8")
