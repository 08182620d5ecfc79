"""Accuracy on CIFAR-10 against the density of a head of fully connected layers.

  python -m experiments.reproduction.cifar_head --config.data.dir=DIR

A small CNN is trained first, with the data's own validation rows. What its last
convolution computes is the input of every head, stored in bytes. The work folder gets
CSV, plots.html and tables.md; heads that are trained are not trained again.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.networks import CNN, cnn
from dnc_jax.training import Hyperparameters, trainer
from dnc_jax.training.data import Dataset, Split, normalise
from experiments import launch
from experiments.reproduction import density_sweep, record, study
from experiments.reproduction.record import Row
from experiments.reproduction.study import Study

_BATCH = 1000
_BRIGHTEST = 99.9  # percentile of the training features that becomes 255
FREE = 0.005  # density of the head down to which the authors saw no loss
NOTES = (
    "The authors train whole CNNs with sparse heads; here one small CNN is trained for "
    "the features of all heads, and the error bars are of the heads alone.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """Trains the CNN, then all heads on its features."""
    density_sweep.check_densities(config.densities)
    study_ = Study(config, workdir)
    data, accuracy = features(config, launch.load_data(config), workdir, study_)
    rows = density_sweep.sweep(
        study_, data, (config.hidden,), config.families, config.densities
    )
    study_.table("accuracy", "Test accuracy against net density of the head", rows)
    study_.table(record.FINDINGS, record.CAPTION, findings({"accuracy": rows}))
    chart = study.chart("CIFAR-10", "net density %", "test accuracy %", log=True)
    means = list(map(study.read_mean, rows))
    study.line(chart, "head", [float(row["net density %"]) for row in rows], means)
    study_.figure(chart)
    study_.finish(
        "Accuracy against density of a CIFAR-10 head", NOTES, cnn_validation=accuracy
    )


def features(
    config: launch.Config, data: Dataset, workdir: pathlib.Path, study_: Study
) -> tuple[Dataset, float]:
    """The features of a small CNN as bytes, and its best validation accuracy.

    Raises:
      InputError: the data is not of images, or the CNN has learned nothing.
    """
    if data.train.x.ndim != 4:
        raise InputError(
            f"{data.name}: a CNN needs images [N, height, width, channels], got "
            f"examples of shape {data.train.x.shape[1:]}"
        )
    count = len(config.channels)
    height, width, colours = data.train.x.shape[1:]
    pools = ("",) + ("pool",) * (count - 1)
    network = CNN(
        (height, width, colours),
        tuple(config.channels),
        data.outputs,
        "relu",
        pools,
        (True,) * count,
    )
    key, order_key = jax.random.split(jax.random.key(config.seed))

    def on_epoch(epoch: int, accuracy: float) -> None:
        study_.out.print(f"CNN, epoch {epoch}: validation accuracy {accuracy:.2%}")

    trained, history = trainer.train(
        key,
        network,
        Hyperparameters(config.train.learning_rate, 0.0, 128),
        data._replace(augment=True),
        order_key=order_key,
        epochs=config.cnn_epochs,
        checkpoint=workdir / "cnn",
        on_epoch=on_epoch,
    )

    @jax.jit
    def of_batch(x: jax.Array) -> jax.Array:
        flat = normalise(x, data.mean, data.scale)
        images, _ = cnn.features(
            trained.params, network, flat, statistics=trained.statistics
        )
        return images.reshape(len(images), -1)

    def of_rows(x: np.ndarray) -> np.ndarray:
        starts = range(0, len(x), _BATCH)
        parts = [np.asarray(of_batch(x[i : i + _BATCH])) for i in starts]
        return np.concatenate([to_bytes(part, most) for part in parts])

    most = float(np.percentile(np.asarray(of_batch(data.train.x[:_BATCH])), _BRIGHTEST))
    if not most > 0:
        raise InputError(
            f"the CNN's features are at most {most:g}, so it has learned nothing; "
            "lower train.learning_rate or raise cnn_epochs"
        )
    splits = [
        Split(of_rows(np.asarray(split.x)), split.y)
        for split in (data.train, data.validation, data.test)
    ]
    named = data._replace(train=splits[0], validation=splits[1], test=splits[2])
    return study.features(named, lambda x: x), max(history.val_accuracy)


def to_bytes(values: np.ndarray, most: float) -> np.ndarray:
    """Values from 0 to `most` as whole numbers from 0 to 255; what is larger, 255."""
    return np.clip(np.rint(values * (255 / most)), 0, 255).astype(np.uint8)


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The authors' claim against the table, as it is printed."""
    rows = tables["accuracy"]
    (dense,) = [row for row in rows if row["family"] == density_sweep.DENSE]
    result = []
    for row in rows:
        if row is dense or float(row["net density %"]) < 100 * FREE:
            continue
        lost = float(dense["test accuracy %"]) - float(row["test accuracy %"])
        errors = study.apart(study.read_mean(dense), study.read_mean(row))
        result.append(
            record.finding(
                f"no loss with {row['net density %']} % of the head's edges",
                f"{lost:+.2f} points lost, {errors:+.1f} standard errors",
                None if math.isnan(errors) else errors <= study.SURE,
            )
        )
    return result


if __name__ == "__main__":
    launch.run(
        main,
        default_config="cifar_head",
        on_interrupt="the same command goes on with what is not trained yet",
    )
