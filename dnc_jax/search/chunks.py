"""Chunks of a search's training on disk: what a search that was killed goes on with.

A chunk is what is trained together in a rung (`plan.chunks`); its file is replaced as
it advances and holds every network of it, at the end of the same epoch. The files of
a rung stay until the next one is done.
"""

import contextlib
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from dnc_jax.training import processes, under_way
from dnc_jax.training.jobs import Progress, Snapshot
from dnc_jax.typing import FilePath

FOLDER = "under_way"


class Chunks:
    """The chunks below `folder`, the work folder of a search; None keeps nothing.

    Raises:
      OSError: the folder cannot be made.
    """

    def __init__(self, folder: FilePath | None) -> None:
        self._folder = pathlib.Path(folder, FOLDER) if folder else None
        if self._folder:  # now: a folder that cannot be written is no surprise later
            self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def begun(self) -> bool:
        """Whether networks of some rung lie in the folder."""
        return bool(processes.from_first(bool(list(self._paths()))))

    def save(
        self, rung: int, named: Mapping[int, str], progress: Sequence[Progress]
    ) -> None:
        """Replaces the file of the chunk that these candidates are; thread-safe.

        Args:
          rung: its number in this search, over all brackets.
          named: candidates of the chunk by number, and what tells each from all others.
          progress: of them, in their order.

        Raises:
          OSError: the file cannot be written; the one before is kept.
        """
        if self._folder is None:
            return
        content = {
            "candidates": tuple(named.items()),
            "progress": [
                {**one._asdict(), "snapshot": one.snapshot._asdict()}
                for one in progress
            ],
        }
        under_way.write(self._folder / f"rung-{rung}-{next(iter(named))}", content)

    def load(self, rung: int, named: Mapping[int, str]) -> dict[int, Progress]:
        """How far these candidates are in a rung, but for those with a damaged file.

        A file written by another version of dnc_jax counts as damaged, and one of
        candidates of other names is of another search. All processes call this
        together, and get what process 0 reads.
        """
        loaded: dict[int, Progress] = {}
        contents = [under_way.read(path) for _, path in self._paths(rung)]
        for content in processes.from_first([c for c in contents if c]):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                loaded |= {
                    number: Progress(
                        **{**fields, "snapshot": Snapshot(**fields["snapshot"])}
                    )
                    for (number, name), fields in zip(
                        content["candidates"], content["progress"], strict=True
                    )
                    if named.get(number) == name
                }
        return loaded

    def forget(self, rung: int) -> None:
        """Removes the files of all rungs before this one."""
        for number, path in self._paths():
            if number < rung:
                path.unlink()

    def course(self, name: str) -> pathlib.Path | None:
        """Where one network's training is kept; None if nothing is."""
        if self._folder is None:
            return None
        return self._folder / name

    def remove(self) -> None:
        """Removes all; a finished search needs none."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _paths(self, rung: int | None = None) -> Iterable[tuple[int, pathlib.Path]]:
        for path in sorted(self._folder.glob("rung-*")) if self._folder else ():
            name = re.fullmatch(r"rung-(\d+)-\d+", path.name)
            if name and rung in (None, int(name[1])):
                yield int(name[1]), path
