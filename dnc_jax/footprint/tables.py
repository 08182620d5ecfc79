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

    Part of a name is never taken for the whole: an RTX 2080 is no RTX 2080 Ti. It is
    what the error offers.

    Args:
      what: "region" or the like, for the error.
      name: as the user wrote it.
      entries: the names of each row, and its number.

    Raises:
      InputError: none or several rows; it lists those, or the nearest names.
    """
    wanted = name.casefold().strip()
    named = [([n for n in names if n], row) for names, row in entries]
    exact = [one for one in named if wanted in (text.casefold() for text in one[0])]
    if len(exact) == 1:
        return exact[0][1]
    words = wanted.split()
    alike = exact or [one for one in named if words and _begins(words, one[0])]
    if alike:
        listed = ", ".join("/".join(names) for names, _ in alike[:8])
        more = f" and {len(alike) - 8} more" if len(alike) > 8 else ""
        raise InputError(f"{what} {name!r} may be {listed}{more}; name one of them")
    # Two letters are near to any code of three.
    folded = {text.casefold(): text for names, _ in named for text in names}
    long = [text for text in folded if len(text) > 3]
    close = difflib.get_close_matches(wanted, long, 5, 0.7)
    nearest = ", ".join(folded[text] for text in close)
    examples = ", ".join("/".join(names) for names, _ in named[:3])
    raise InputError(
        f"unknown {what} {name!r}; "
        + (f"nearest: {nearest}" if nearest else f"none is near; as {examples}")
    )


def _begins(words: Sequence[str], names: Sequence[str]) -> bool:
    """Each word begins one of the names' words."""
    known = " ".join(names).casefold().split()
    return all(any(one.startswith(word) for one in known) for word in words)
