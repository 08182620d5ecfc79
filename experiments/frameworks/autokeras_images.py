"""AutoKeras' image classifier as it is, in an environment of its own; see install.sh.

  python experiments/frameworks/autokeras_images.py ROWS.npz SECONDS SEED

Prints one JSON object as its last line: the best network when time is out, in the
middle of a training too.
"""

import json
import sys
import tempfile

import autokeras
import keras
import numpy as np
from keras_watch import Watch, found


def describe(model: keras.Model) -> dict:
    """How many convolutions, and AutoKeras' default batch size."""
    names = [type(layer).__name__ for layer in model.layers]
    count = sum("Conv2D" in name for name in names)
    return {"architecture": f"{count} convolutions", "batch_size": 32}


def main(path: str, seconds: float, seed: int) -> None:
    """Searches for so many seconds and prints what was found."""
    file = np.load(path)

    def images(name):
        return file[name].reshape(-1, 28, 28, 1)

    keras.utils.set_random_seed(seed)
    classifier = autokeras.ImageClassifier(directory=tempfile.mkdtemp(), seed=seed)
    best = found(
        lambda: classifier.fit(
            images("x_train"),
            file["y_train"],
            validation_data=(images("x_val"), file["y_val"]),
            callbacks=[Watch(seconds, describe)],
            verbose=0,
        ),
        images("x_test"),
        file["y_test"],
    )
    name = f"AutoKeras {autokeras.__version__}, default"
    print(json.dumps({"framework": name, **best}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
