"""KerasTuner's Hyperband over MLPs, in an environment of its own; see install.sh.

  python experiments/frameworks/keras_tuner_mlp.py ROWS.npz SECONDS SEED

Prints one JSON object as its last line. The space is that of configs/mnist_mlp.py; the
best network when time is out, in the middle of a training too, is what is reported.
"""

import json
import sys
import tempfile

import keras
import keras_tuner
import numpy as np
from keras_watch import Watch, found

MAX_EPOCHS = 27
BATCH = [0]  # of the network under way


class Space(keras_tuner.HyperModel):
    """MLPs of up to three hidden layers and how to train them."""

    def build(self, hp):
        """The network that `hp` describes."""
        model = keras.Sequential([keras.layers.Input((784,))])
        activation = hp.Choice("activation", ["relu", "tanh", "sigmoid"])
        dropout = hp.Float("dropout", 0.0, 0.5)
        decay = hp.Float("decay", 1e-6, 1e-3, sampling="log")
        for layer in range(hp.Int("depth", 0, 3)):
            units = hp.Int(f"units_{layer}", 20, 400, sampling="log")
            penalty = keras.regularizers.L2(decay)
            model.add(keras.layers.Dense(units, activation, kernel_regularizer=penalty))
            model.add(keras.layers.Dropout(dropout))
        model.add(keras.layers.Dense(10))
        model.compile(
            keras.optimizers.Adam(hp.Float("rate", 1e-5, 1e-1, sampling="log")),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def fit(self, hp, model, *args, **kwargs):
        """Trains with a batch size that is searched too."""
        BATCH[0] = hp.Choice("batch_size", [32, 128, 512])
        return model.fit(*args, **{**kwargs, "batch_size": BATCH[0], "verbose": 0})


def describe(model: keras.Model) -> dict:
    """The layers, and the batch size."""
    dense = [one for one in model.layers if isinstance(one, keras.layers.Dense)]
    units = "-".join(str(layer.units) for layer in dense)
    return {"architecture": f"784-{units}", "batch_size": BATCH[0]}


def main(path: str, seconds: float, seed: int) -> None:
    """Searches for so many seconds and prints what was found."""
    file = np.load(path)

    def features(name):
        flat = file[name].reshape(len(file[name]), -1)
        return ((flat - file["mean"]) * file["scale"]).astype(np.float32)

    keras.utils.set_random_seed(seed)
    tuner = keras_tuner.Hyperband(
        Space(),
        objective="val_accuracy",
        max_epochs=MAX_EPOCHS,
        factor=3,
        seed=seed,
        directory=tempfile.mkdtemp(),
    )
    best = found(
        lambda: tuner.search(
            features("x_train"),
            file["y_train"],
            validation_data=(features("x_val"), file["y_val"]),
            callbacks=[Watch(seconds, describe)],
            verbose=0,
        ),
        features("x_test"),
        file["y_test"],
    )
    name = f"KerasTuner {keras_tuner.__version__}, Hyperband"
    print(json.dumps({"framework": name, **best}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
