"""AutoGluon's tabular predictor as it is, in an environment of its own; see install.sh.

  python experiments/frameworks/autogluon_tabular.py ROWS.npz SECONDS SEED

Prints one JSON object as its last line. Every pixel is a column; what it finds is an
ensemble, which has no epochs and no parameters to count.
"""

import json
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor
from autogluon.tabular import __version__ as version


def main(path: str, seconds: float, seed: int) -> None:
    """Searches for so many seconds and prints what was found."""
    file = np.load(path)

    def frame(part):
        x = file[f"x_{part}"].reshape(len(file[f"x_{part}"]), -1)
        columns = [f"p{i}" for i in range(x.shape[1])]
        return pd.DataFrame(x, columns=columns).assign(label=file[f"y_{part}"])

    np.random.seed(seed)
    train, val, test = map(frame, ("train", "val", "test"))
    begin = time.perf_counter()
    predictor = TabularPredictor("label", path=tempfile.mkdtemp(), verbosity=0)
    predictor.fit(train, tuning_data=val, time_limit=seconds)
    searched = time.perf_counter() - begin
    best = predictor.model_best
    info = predictor.leaderboard(silent=True).set_index("model").loc[best]
    print(
        json.dumps(
            {
                "framework": f"AutoGluon {version}, tabular, default",
                "architecture": best,
                "val_accuracy": float(info["score_val"]),
                "test_accuracy": float(
                    (predictor.predict(test) == test["label"]).mean()
                ),
                "search_seconds": searched,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
