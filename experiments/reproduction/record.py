"""What a reproduction leaves: CSV tables, run.json, and Markdown made of them alone."""

import csv
import datetime
import io
import json
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dnc_jax import files
from dnc_jax.training.machine import processor
from dnc_jax.training.resources import cores
from experiments import launch

Row = Mapping[str, str]  # a line of a table, as it is printed
FINDINGS, CAPTION = "findings", "What is said, and what was found"
AGREES, DISAGREES, UNDECIDED = "agrees", "does not agree", "undecided"


def write_csv(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Rows of equal columns, at least one of them, in a file that is whole or not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with files.new_file(path) as file:
        file.write(text.getvalue().encode())


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def groups(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """The rows by what stands in a column, in the order in which that appears."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def finding(claim: str, measured: str, agrees: bool | None) -> dict[str, str]:
    """A line of the table of findings; None: the numbers do not decide."""
    verdict = {True: AGREES, False: DISAGREES, None: UNDECIDED}[agrees]
    return {"claim": claim, "measured": measured, "verdict": verdict}


def about(config: launch.Config, seeds: Sequence[int]) -> dict[str, Any]:
    """When, where and how a table was made: the beginning of run.json."""
    settings = json.loads(config.to_json())
    if "data" in settings:
        settings["data"]["dir"] = "DIR"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "seeds": list(seeds),
        "command": command(sys.argv[1:]),
        "commit": _commit(),
        "settings": settings,
    }


def machine() -> str:
    """The processor and what runs on it, in words."""
    device = jax.local_devices()[0]
    chip = device.device_kind
    if device.platform == "cpu":
        chip = processor() or platform.machine()
    count = cores() if device.platform == "cpu" else jax.local_device_count()
    noun = "core" if device.platform == "cpu" else "device"
    return (
        f"{chip}, {count} {noun}{'s' if count > 1 else ''}, "
        f"Python {platform.python_version()}, jax {jax.__version__}"
    )


def command(arguments: Sequence[str]) -> str:
    """The command line without what is this machine's own: paths."""
    module = sys.modules["__main__"].__spec__
    words = ["python -m", module.name if module else "experiments.reproduction"]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in ("--workdir", "--compilation_cache", "--quiet"):
            continue
        own = pathlib.Path(value).is_absolute()
        words.append(f"{name}={_PLACES.get(name, 'PATH')}" if own else argument)
    return " ".join(words)


_PLACES = {"--config.data.dir": "DIR"}


def section(folder: pathlib.Path) -> str:
    """The chapter of a study in Markdown: from its run.json and its tables."""
    run = launch.read_json(folder / "run.json")
    noun = "seeds" if len(run["seeds"]) > 1 else "seed"
    lines = [
        f"## {run['title']}",
        "",
        f"    {run['command']}",
        "",
        f"{run['date']}, {run['machine']}, {noun} "
        f"{', '.join(map(str, run['seeds']))}, commit {run['commit']}.",
        *run["notes"],
        "",
    ]
    for name, caption in run["tables"].items():
        lines += [f"{caption} (`{folder.name}/{name}.csv`):", ""]
        lines += [*markdown(read_csv(folder / f"{name}.csv")), ""]
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> list[str]:
    """The lines of a table; columns of numbers are aligned to the right."""
    columns = list(rows[0])
    right = [all(_numeric(row[name]) for row in rows) for name in columns]
    cells = [[row[name].replace("|", "\\|") or "-" for name in columns] for row in rows]
    lines = [columns, ["--:" if flag else "---" for flag in right], *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def _numeric(text: str) -> bool:
    return not text.strip("0123456789.,-+eE% ")


def _commit() -> str:
    """Of the tree that runs; with a plus where files differ from it."""
    root = pathlib.Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    try:
        said = subprocess.run(
            [*git, "describe", "--always", "--exclude=*", "--dirty=+"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
