"""The store of trials: one SQLite file, and the only writer of it."""

import contextlib
import dataclasses
import json
import math
import pathlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import filelock

from dnc_jax.errors import InputError
from dnc_jax.footprint import Complexity
from dnc_jax.search.space import Candidate
from dnc_jax.training.timing import UNMEASURED, EpochCost
from dnc_jax.typing import FilePath

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS search (config TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
  candidate_id INTEGER NOT NULL,
  rung INTEGER NOT NULL,
  candidate TEXT NOT NULL,
  epochs INTEGER NOT NULL,
  val_loss TEXT NOT NULL,
  val_accuracy TEXT NOT NULL,
  parameters INTEGER NOT NULL,
  flops_per_example INTEGER NOT NULL,
  score REAL,
  seconds REAL NOT NULL,
  status TEXT NOT NULL,
  schedule_epochs INTEGER NOT NULL,
  {"".join(f"epoch_{name} REAL, " for name in EpochCost._fields)}
  joules REAL,
  PRIMARY KEY (candidate_id, rung)
);
"""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One evaluation of a candidate: what it reached at the end of a rung.

    Attributes:
      candidate_id, candidate, rung: which.
      epochs: trained from scratch until the end of this rung.
      val_loss, val_accuracy: by epoch, from the first one on; shorter than `epochs`
        for a candidate that diverged.
      complexity: of the true network.
      score: lower is better; infinite if the network never had a finite loss.
      seconds: this candidate's share of the runs that trained it in this rung: their
        wall clock over their networks, without compiling.
      status: `done`, `diverged`, or `infeasible`: over a limit that is measured.
      schedule_epochs: what the learning-rate schedule was spread over.
      epoch_cost: of training this network by itself, as far as the search asks for it.
      joules: this candidate's share of the rung's energy, modelled; None where energy
        is not counted.
    """

    candidate_id: int
    candidate: Candidate
    rung: int
    epochs: int
    val_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    complexity: Complexity
    score: float
    seconds: float
    status: str
    schedule_epochs: int = 0
    epoch_cost: EpochCost = UNMEASURED
    joules: float | None = None

    @property
    def best_val_accuracy(self) -> float:
        """The best over the epochs; 0 if there is none."""
        return max(self.val_accuracy, default=0.0)


def each(trials: Iterable[Trial]) -> Iterator[Trial]:
    """These trials, one after another.

    Raises:
      InputError: one of them is no trial.
    """
    for trial in trials:
        if not isinstance(trial, Trial):
            raise InputError(
                f"trials must be of type Trial, got a {type(trial).__name__}; those of "
                "a SearchResult are its `trials`"
            )
        yield trial


def ranking(trials: Iterable[Trial]) -> list[Trial]:
    """The best trial of each candidate, best first; those not `done` are left out."""
    best: dict[int, Trial] = {}
    for trial in each(trials):
        if trial.status == "done":
            other = best.get(trial.candidate_id, trial)
            best[trial.candidate_id] = min(trial, other, key=_order)
    return sorted(best.values(), key=_order)


def longest(trials: Iterable[Trial]) -> dict[int, Trial]:
    """The trial of the most epochs of each candidate, by its number."""
    last: dict[int, Trial] = {}
    for trial in each(trials):
        other = last.get(trial.candidate_id, trial)
        last[trial.candidate_id] = max(trial, other, key=lambda t: t.epochs)
    return last


def _order(trial: Trial) -> tuple[float, int, int]:
    return (trial.score, trial.complexity.parameters, trial.candidate_id)


def cost_of(trial: Trial, cost: str) -> int | float | None:
    """A number of the trial by its name in the store, such as "epoch_seconds"."""
    if cost in Complexity._fields:
        return getattr(trial.complexity, cost)
    if cost.startswith("epoch_"):
        return getattr(trial.epoch_cost, cost.removeprefix("epoch_"))
    return getattr(trial, cost)


def front(trials: Iterable[Trial], cost: str = "parameters") -> list[Trial]:
    """The Pareto front of validation error against a cost, cheap networks first.

    Args:
      trials: of a search.
      cost: as for `cost_of`; trials without it are left out.
    """
    by_cost = sorted(
        (t for t in ranking(trials) if cost_of(t, cost) is not None),
        key=lambda t: (cost_of(t, cost), -t.best_val_accuracy, t.candidate_id),
    )
    best: list[Trial] = []
    for trial in by_cost:
        if not best or trial.best_val_accuracy > best[-1].best_val_accuracy:
            best.append(trial)
    return best


class Store:
    """Trials of one search in `path`, a new file or one of the same config.

    Nobody else can open the store until it is closed or its process has ended, however
    that ends; `read` still can read it.

    Args:
      path: of the file.
      config: of the search, as JSON has it.
      free: sections of it that may change while a search goes on, since no trial
        depends on them; the last ones are kept.

    Attributes:
      changed: whether one of these has changed since the store was opened before.

    Raises:
      InputError: the file belongs to a search with another config, is in use, is not a
        store or damaged, or cannot be written.
      TypeError: the config is not JSON.
    """

    def __init__(
        self, path: FilePath, config: dict[str, Any], free: Collection[str] = ()
    ) -> None:
        self._path = path = pathlib.Path(path)
        text = json.dumps(config)
        with contextlib.ExitStack() as opened:
            opened.enter_context(_lock(path))
            with _clear(
                f"{path} is not a writable trial store",
                "move it away, or name another work folder",
            ):
                self._db = opened.enter_context(
                    contextlib.closing(sqlite3.connect(path))
                )
                (state,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
                if state != "ok":
                    raise sqlite3.DatabaseError(state)
                with self._db:
                    self._db.executescript(_SCHEMA)
                    row = self._db.execute("SELECT config FROM search").fetchone()
                    if row is None:
                        self._db.execute("INSERT INTO search VALUES (?)", [text])
            stored, wanted = json.loads(row[0] if row else text), json.loads(text)
            _refuse_other(path, *(_without(one, free) for one in (stored, wanted)))
            self.changed = stored != wanted
            if self.changed:
                with self._db:
                    self._db.execute("UPDATE search SET config = ?", [text])
            self._opened = opened.pop_all()

    def add(self, trials: Iterable[Trial]) -> None:
        """Writes trials in one transaction, all or none; known ones are replaced.

        Raises:
          InputError: the file cannot be written; what was stored before is kept.
        """
        rows = [to_row(trial) for trial in trials]
        if not rows:
            return
        places = ", ".join("?" * len(rows[0]))
        insert = f"INSERT OR REPLACE INTO trials VALUES ({places})"
        with (
            _clear(
                f"cannot write to {self._path}",
                "what was stored before is kept, and the same command goes on from it",
            ),
            self._db,
        ):
            self._db.executemany(insert, rows)

    def first(self, name: str, value: Any) -> Any:
        """What was stored first under `name`, which is `value` if nothing was.

        Args:
          name: of something that must not change while a search goes on.
          value: as JSON has it.

        Raises:
          InputError: the file is damaged or cannot be written.
        """
        with (
            _clear(f"{self._path} is damaged", "move it away to search anew"),
            self._db,
        ):
            self._db.execute(
                "INSERT OR IGNORE INTO facts VALUES (?, ?)", [name, json.dumps(value)]
            )
        return self.fact(name)

    def fact(self, name: str) -> Any:
        """What was stored first under `name`; None if nothing was.

        Raises:
          InputError: the file is damaged.
        """
        with _clear(f"{self._path} is damaged", "move it away to search anew"):
            return _fact(self._db, name)

    def trials(self) -> list[Trial]:
        """All trials, by rung of each candidate.

        Raises:
          InputError: the file is damaged.
        """
        with _clear(f"{self._path} is damaged", "move it away to search anew"):
            return _trials(self._db)

    def close(self) -> None:
        """Closes the file, for others to open; what was added stays."""
        self._opened.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.close()


def _lock(path: pathlib.Path) -> Any:
    """A context that keeps others from `path`; the system ends it with this process."""
    try:
        return filelock.FileLock(f"{path}.lock").acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(
            f"another run is using {path.parent}; wait for its end, or name another "
            "work folder"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be written ({error.strerror}); name another work "
            "folder"
        ) from error


@contextlib.contextmanager
def _clear(what: str, remedy: str) -> Iterator[None]:
    """Turns what SQLite and damaged rows raise into one clear error."""
    try:
        yield
    except (InputError, sqlite3.ProgrammingError):
        raise  # the latter of a closed store, or of one that another thread opened
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{what} ({error}); {remedy}") from error


def read(path: FilePath) -> tuple[dict[str, Any], list[Trial]]:
    """Config and trials of the store in `path`, also while a search writes to it.

    Raises:
      InputError: there is no store.
    """
    with _reading(path) as db:
        row = db.execute("SELECT config FROM search").fetchone()
        return (json.loads(row[0]) if row else {}), _trials(db)


def read_fact(path: FilePath, name: str) -> Any:
    """`Store.fact` of the store in `path`, also while a search writes to it.

    Raises:
      InputError: there is no store.
    """
    with _reading(path) as db:
        return _fact(db, name)


@contextlib.contextmanager
def _reading(path: FilePath) -> Iterator[sqlite3.Connection]:
    with _clear(f"no trial store in {path}", "name a folder that holds a search"):
        uri = f"{pathlib.Path(path).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            yield db


def _fact(db: sqlite3.Connection, name: str) -> Any:
    query = "SELECT value FROM facts WHERE name = ?"
    row = db.execute(query, [name]).fetchone()
    return json.loads(row[0]) if row else None


def _trials(db: sqlite3.Connection) -> list[Trial]:
    rows = db.execute("SELECT * FROM trials ORDER BY candidate_id, rung")
    return [from_row(row) for row in rows]


def to_row(trial: Trial) -> tuple[Any, ...]:
    """A trial as numbers, texts and None, in the order of the table's columns."""
    return (
        trial.candidate_id,
        trial.rung,
        json.dumps(trial.candidate.to_json()),
        trial.epochs,
        json.dumps(trial.val_loss),
        json.dumps(trial.val_accuracy),
        *trial.complexity,
        trial.score if math.isfinite(trial.score) else None,
        trial.seconds,
        trial.status,
        trial.schedule_epochs,
        *trial.epoch_cost,
        trial.joules,
    )


def from_row(row: Sequence[Any]) -> Trial:
    """The trial of a row."""
    return Trial(
        candidate_id=row[0],
        rung=row[1],
        candidate=Candidate.from_json(json.loads(row[2])),
        epochs=row[3],
        val_loss=tuple(json.loads(row[4])),
        val_accuracy=tuple(json.loads(row[5])),
        complexity=Complexity(row[6], row[7]),
        score=math.inf if row[8] is None else row[8],
        seconds=row[9],
        status=row[10],
        schedule_epochs=row[11],
        epoch_cost=EpochCost(*row[12:-1]),
        joules=row[-1],
    )


def _refuse_other(
    path: pathlib.Path, stored: dict[str, Any], config: dict[str, Any]
) -> None:
    old, new = flat(stored), flat(config)
    keys = [
        key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    ]
    if keys:
        changed = "; ".join(
            f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"
            for key in keys
        )
        forks = ", which can take over the trials of this one (--fork; prior in Python)"
        other_rows = any(key.partition(".")[0] in ("data", "seed") for key in keys)
        raise InputError(
            f"{path.parent} holds a search with another config ({changed}); name "
            f"another work folder{'' if other_rows else forks}"
        )


def _without(config: dict[str, Any], sections: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in sections}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's fields by their dotted names, as flags have them.

    >>> flat({"search": {"rungs": [3, 9]}, "seed": 0})
    {'search.rungs': [3, 9], 'seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
