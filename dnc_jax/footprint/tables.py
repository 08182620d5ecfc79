"""The tables inside the package: rows by name, and a clear answer to unknown names."""

import csv
import difflib
import pathlib
from collections.abc import Iterable, Sequence

from dnc_jax.errors import InputError

DATA = pathlib.Path(__file__).parent / "data"


def read(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file in `data`; its header says where each figure comes from."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def pick(what: str, name: str, entries: Sequence[tuple[Iterable[str], int]]) -> int:
    """The row that `name` names, in any case.

    An exact name comes first; else all its words must occur in one row alone.

    Args:
      what: "region" or the like, for the error.
      name: as the user wrote it.
      entries: the names of each row, and its number.

    Raises:
      InputError: none or several rows; it lists those, or the nearest names.
    """
    wanted = name.casefold().strip()
    named = [([n for n in names if n], row) for names, row in entries]
    exact = [
        entry for entry in named if wanted in (text.casefold() for text in entry[0])
    ]
    words = wanted.split()
    found = exact or [
        entry
        for entry in named
        if words and all(word in " ".join(entry[0]).casefold() for word in words)
    ]
    if len(found) == 1:
        return found[0][1]
    if found:
        listed = ", ".join("/".join(names) for names, _ in found[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise InputError(f"{what} {name!r} may be {listed}{more}; name one of them")
    folded = {text.casefold(): text for names, _ in named for text in names}
    close = difflib.get_close_matches(wanted, folded, 5, 0.5)
    nearest = ", ".join(folded[text] for text in close) or ", ".join(
        names[0] for names, _ in named[:5]
    )
    raise InputError(f"unknown {what} {name!r}; nearest: {nearest}")
