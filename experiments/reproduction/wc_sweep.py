r"""What the weight of complexity w_c trades, beside Deep-n-Cheap's own figures.

  python -m experiments.reproduction.wc_sweep --config.data.dir=DIR
  python -m experiments.reproduction.wc_sweep \
      --config=experiments/configs/wc_sweep.py:cnn --config.data.dir=DIR

The work folder is that of experiments.sweep, a search in w_c-* for each --w_c, with
plots.html and tables.md beside sweep.csv. It goes on where it was interrupted.
"""

import pathlib
from collections.abc import Mapping, Sequence

from experiments import launch, sweep
from experiments.reproduction import record, study
from experiments.reproduction.record import Row
from experiments.reproduction.study import Study

# w_c -> best validation accuracy %, parameters, search hours. Of MLPs on MNIST read off
# a plot; of CNNs on CIFAR-10, with augmentation on a V100, from a table.
PUBLISHED = {
    "mnist": {
        0.0: ("98.58", "460000", "3.47"),
        0.01: ("98.37", "145000", "2.36"),
        0.1: ("98.44", "70000", "1.5"),
        1.0: ("92.8", "7900", "0.82"),
        10.0: ("92.8", "7900", "0.77"),
    },
    "cifar10": {
        0.0: ("93.74", "", "29.17"),
        0.1: ("91.89", "1995138", "19.23"),
        10.0: ("83.82", "302714", "16.23"),
    },
}
NEAR = 0.5  # points of accuracy
NOTES = (
    "The authors' complexity is the time of an epoch or, for MLPs, the parameters over "
    "those of the largest network; ours is the latter. Their hours are of a V100.",
    "Their search is greedy, with 100 epochs for each candidate; the quick settings "
    "are successive halving, up to 27 epochs, and of CNNs they know small ones only.",
    "Our seconds are of a machine with other work. A weight takes over the trials of "
    "those before it, so that they are of what was new.",
)


def main(config: launch.Config, workdir: pathlib.Path) -> None:
    """One search for each weight, then the table beside the published one."""
    sweep.asked()  # refused before the folder is made
    study_ = Study(config, workdir)
    sweep.main(config, workdir)
    found = record.read_csv(workdir / "sweep.csv")
    rows = [_row(config.data.name, one) for one in found]
    study_.table("accuracy", "What each weight of complexity finds", rows)
    study_.table(record.FINDINGS, record.CAPTION, findings({"accuracy": rows}))
    chart = study.chart("w_c", "parameters", "validation accuracy %", log=True)
    for name in ("ours", "published"):
        own = [row for row in rows if row[f"{name}: parameters"]]
        chart.add_scatter(
            x=[float(row[f"{name}: parameters"]) for row in own],
            y=[float(row[f"{name}: validation %"]) for row in own],
            text=[row["w_c"] for row in own],
            mode="markers+text",
            name=name,
        )
    study_.figure(chart)
    weights = [float(row["w_c"]) for row in rows]
    study_.finish(f"The weight of complexity, {config.data.name}", NOTES, w_c=weights)


def _row(data: str, one: Mapping[str, str]) -> dict[str, str]:
    accuracy, parameters, hours = PUBLISHED.get(data, {}).get(
        float(one["w_c"]), ("", "", "")
    )
    return {
        "w_c": f"{float(one['w_c']):g}",
        "ours: network": one["network"],
        "ours: parameters": one["parameters"],
        "ours: validation %": f"{100 * float(one['best_val_accuracy']):.2f}",
        "ours: test %": f"{100 * float(one['test_accuracy']):.2f}",
        "ours: search seconds": f"{float(one['search_seconds']):.0f}",
        "published: parameters": parameters,
        "published: validation %": accuracy,
        "published: search hours": hours,
    }


def findings(tables: Mapping[str, Sequence[Row]]) -> list[dict[str, str]]:
    """The authors' trade-off against the table, as it is printed."""
    rows = sorted(tables["accuracy"], key=lambda row: float(row["w_c"]))
    parameters = [int(row["ours: parameters"]) for row in rows]
    accuracies = [float(row["ours: validation %"]) for row in rows]
    result = [
        record.finding(
            "the larger w_c, the fewer parameters",
            ", ".join(row["ours: parameters"] for row in rows),
            parameters == sorted(parameters, reverse=True)
            and parameters[0] > parameters[-1],
        ),
        record.finding(
            "the larger w_c, the lower the accuracy from end to end",
            f"{accuracies[0]:.2f} % to {accuracies[-1]:.2f} %",
            accuracies[0] > accuracies[-1],
        ),
    ]
    for row in rows:
        if not row["published: validation %"]:
            continue
        difference = float(row["ours: validation %"]) - float(
            row["published: validation %"]
        )
        result.append(
            record.finding(
                f"w_c {row['w_c']}: at most {NEAR} points below the published accuracy",
                f"{difference:+.2f} points",
                difference >= -NEAR,
            )
        )
    return result


if __name__ == "__main__":
    launch.run(
        main,
        default_config="wc_sweep",
        on_interrupt="the same command goes on with what is not trained yet",
    )
