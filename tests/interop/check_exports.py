"""Opens what `xp export` wrote with Keras and safetensors, and compares answers; run by tests/it/export.rs.

    python tests/interop/check_exports.py FOLDER

FOLDER holds, for each run NAME of cases.json, NAME-kh5.json, NAME-kh5.h5, NAME-full.h5, NAME.weights.h5, NAME.keras,
NAME.npz and NAME.safetensors; cases.json says what xp answers for an image of a formula. KERAS_BACKEND
names another backend than JAX, XP_KERAS_MODULE=tf_keras takes Keras 2. Tested with keras 3.15.1 on jax 0.10.2, torch 2.15.0
and tensorflow 2.21.0, keras 3.3.3 and 3.8.0 on jax 0.4.30, and tf_keras 2.21.0.
"""

import importlib
import json
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
from safetensors.numpy import load_file


# tf_keras is Keras 2, which has formats of its own; those of Keras 3 are not its.
MODULE = os.environ.get("XP_KERAS_MODULE", "keras")
keras = importlib.import_module(MODULE)
IS_KERAS_3 = MODULE == "keras"


def image(size):
    y, x, c = np.meshgrid(range(size), range(size), range(3), indexing="ij")
    return (7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) % 256


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    for name, case in cases.items():
        beside = json.loads((folder / f"{name}.keras.json").read_text())
        pixels = beside["pixels"]
        size = beside["image_size"]
        x = image(size)[..., :: -1 if pixels["order"] == "BGR" else 1]
        x = ((x - np.array(pixels["mean"])) / np.array(pixels["deviation"])).astype(np.float32)[None]

        def from_json():
            return keras.models.model_from_json((folder / f"{name}-kh5.json").read_text())

        models = {"keras-h5": from_json()}
        models["keras-h5"].load_weights(folder / f"{name}-kh5.h5")
        models["h5"] = keras.models.load_model(folder / f"{name}-full.h5", compile=False)
        if IS_KERAS_3:
            models["weights-h5"] = from_json()
            models["weights-h5"].load_weights(folder / f"{name}.weights.h5")
            models["keras"] = keras.models.load_model(folder / f"{name}.keras", compile=False)
        for form, model in models.items():
            answer = model(x, training=False)
            found = (keras.ops.convert_to_numpy(answer) if IS_KERAS_3 else answer.numpy()).ravel()
            if found.size == 1:
                found = np.array([1 - found[0], found[0]])
            expected = np.array([case["probabilities"][label] for label in beside["classes"]])
            gap = np.abs(found - expected).max()
            print(f"{name} {form}: {gap:.1e}")
            assert gap < 1e-4, (name, form, found, expected)
        arrays = np.load(folder / f"{name}.npz")
        for layer in models["h5"].layers:
            for variable in layer.weights:
                key = f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}"
                key = key if key in arrays else key.replace("/kernel", "/depthwise_kernel")
                value = keras.ops.convert_to_numpy(variable) if IS_KERAS_3 else variable.numpy()
                assert np.array_equal(arrays[key], value), key
        tensors = load_file(folder / f"{name}.safetensors")
        for key, shape in case["torch"].items():
            assert list(tensors[key].shape) == shape, (key, tensors[key].shape, shape)
        if case["torch"]:
            assert set(tensors) - set(case["torch"]) == set(case["head"]), set(tensors) - set(case["torch"])
        # A network in a form that no package has must not load into one by its names.
        assert not set(tensors) & set(case["foreign"]) and set(case["head"]) <= set(tensors)
    print("ok")


if __name__ == "__main__":
    main()
