"""What every launch file shares: flags, and errors in one line."""

import contextlib
import errno
import importlib
import inspect
import io
import json
import os
import pathlib
import re
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from dnc_jax.errors import InputError, ProcessError
from dnc_jax.footprint import Assumed, carbon
from dnc_jax.report import terminal
from dnc_jax.search.trials import flat
from dnc_jax.training import compilation, data, processes
from dnc_jax.training.data import Dataset
from experiments import checks, pod

CONFIGS = pathlib.Path(__file__).parent / "configs"

# A ConfigDict; its fields are known at run time only.
Config = Any
Main = Callable[[Config, pathlib.Path], None]

_QUIET = flags.DEFINE_bool("quiet", False, "Print errors only.")
_VERBOSE = flags.DEFINE_bool("verbose", False, "Print what JAX and Orbax narrate too.")

_TERMINATED = ("terminated",)  # arguments of the interrupt that SIGTERM becomes


def run(
    main: Main, default_config: str, on_interrupt: str, *, several: bool = False
) -> None:
    """Parses --config and --workdir, runs `main(config, workdir)` and exits.

    Unusable input (a bad flag, an unknown config field, an `InputError`, a file
    system that refuses) ends with one line on standard error and exit code 2. Ctrl-C
    and SIGTERM, which preemptible machines and schedulers send, end with the line
    `on_interrupt` and 128 plus the number of the signal: 130 and 143. A search on
    several processes that loses one ends in the others with `pod.LOST`.

    Args:
      main: the launch file's work.
      default_config: name of the file in experiments/configs used without --config.
      on_interrupt: says what becomes of the work, and how to go on.
      several: whether it can be one of several processes.
    """
    try:
        config = config_flags.DEFINE_config_file(
            "config",
            str(CONFIGS / f"{default_config}.py"),
            "Config file. Every field of it is a flag too: --config.seed=3.",
        )
    except (AttributeError, KeyError) as error:
        # Overrides are looked up here already, in the default config.
        _exit(f"unknown config field {_field(error)}; --help lists those of the config")
    except (TypeError, ValueError, OSError) as error:
        _exit(error)
    workdir = flags.DEFINE_string(
        "workdir", None, "Folder of the results. Default: runs/<config name>."
    )
    cache = flags.DEFINE_string(
        "compilation_cache",
        "",
        "Folder of what later runs use again: compiled programs, this machine's "
        "constants, decoded images of TFDS sets; 'off' keeps none, and a bucket, "
        "gs://NAME/FOLDER, programs alone. "
        "Default: dnc_jax in the user's cache folder.",
    )

    def checked() -> None:
        file = config_flags.get_config_filename(flags.FLAGS["config"])
        name = pathlib.Path(file).stem
        folder = pathlib.Path(workdir.value or pathlib.Path("runs") / name)
        pod.join(several)  # first: what is refused then ends all of them
        try:  # ml_collections loads the file only now
            checks.check(config.value, _default(default_config))
        except (OSError, flags.Error) as error:
            raise InputError(f"cannot read the config: {error}") from error
        pod.refuse_others(_same_everywhere(config.value))
        compilation.keep(cache.value)
        main(ml_collections.ConfigDict(config.value.to_dict()), folder)

    _run(checked, lambda: _help(main, config.value), f"; {on_interrupt}")


def run_flags(main: Callable[[], None]) -> None:
    """As `run`, for a launch file that has flags of its own instead of a config."""
    _run(main, lambda: _help(main, None), "")


def _run(work: Callable[[], None], describe: Callable[[], str], advice: str) -> None:
    """Parses the flags and does the work; what a user can repair is one line.

    Args:
      work: without arguments, which are refused.
      describe: what --help prints.
      advice: after "interrupted", and after a disk was full.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        wanted = {"--help", "-h", "-help"} & set(argv)
        rest = _parse([arg for arg in argv if arg not in wanted])
        if wanted:
            with contextlib.suppress(BrokenPipeError):  # of `| head`
                print(describe(), flush=True)
            sys.exit(0)
        return rest

    def checked(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise InputError(
                    f"unexpected argument {argv[1]!r}; a flag starts with --"
                )
            work()
            pod.wait()
        except ProcessError as error:
            pod.leave(error)
        except InputError as error:
            _exit(error)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            _exit(f"{error}{advice if full else ''}")
        except KeyboardInterrupt as error:
            print(f"\ninterrupted{advice}", file=sys.stderr)
            pod.end(128 + _signal_of(error))
        except Exception:
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            pod.end(1)

    def terminate(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt(*_TERMINATED)

    if isinstance(sys.stdout, io.TextIOWrapper):  # neither closed nor replaced
        sys.stdout.reconfigure(errors="replace")  # where it cannot write a label
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = _send_again
    app.run(checked, flags_parser=parse)


def _send_again(lost: Any) -> None:
    """What Python cannot raise; of an interrupt, it sends the signal once more.

    JAX has callbacks in the garbage collector, where Python drops all exceptions.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    number = _signal_of(lost.exc_value)
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()


def _signal_of(interrupt: BaseException) -> signal.Signals:
    return signal.SIGTERM if interrupt.args == _TERMINATED else signal.SIGINT


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(_last_of_each(argv))
    except flags.UnrecognizedFlagError as error:
        advice = f"; fields of the config are written --config.{error.flagname}"
        _exit(f"{error}{advice if 'config' in flags.FLAGS else ''}")
    except (AttributeError, KeyError) as error:
        _exit(f"unknown config field {_field(error)}; --help lists those of the config")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _exit(error)
    except Exception as error:  # a config is code, which may fail in any way
        _exit(f"cannot read the config: {type(error).__name__}: {error}")
    # JAX and Orbax narrate at the level INFO.
    logging.set_verbosity(logging.INFO if _VERBOSE.value else logging.WARNING)
    return rest


def _last_of_each(argv: Sequence[str]) -> list[str]:
    """Of a config field that is given twice, the last value, as of any other flag.

    ml_collections would put tuples together: defaults of a script and what follows.
    """
    names = [arg.partition("=")[0] for arg in argv]
    return [
        arg
        for number, arg in enumerate(argv)
        if not (arg.startswith("--config.") and names[number] in names[number + 1 :])
        or "=" not in arg
    ]


def console() -> Console:
    """Where a launch file prints: standard output.

    Nowhere with --quiet, and in every process but the first of several.
    """
    return terminal.console(quiet=_QUIET.value or not processes.is_first())


def _help(main: Callable[..., None], config: Config | None) -> str:
    """The launch file's description and all that can be set, with its value."""
    text = inspect.getdoc(inspect.getmodule(main)) or ""
    general = [
        f"  --quiet         {flags.FLAGS['quiet'].help}",
        f"  --verbose       {flags.FLAGS['verbose'].help}",
    ]
    fields, codes = [], "0 done, 2 unusable input, 130 and 143 interrupted"
    if config:
        codes += f", {pod.LOST} another process of the search ended"
        general = [
            f"  --config=FILE   a config, such as those in {CONFIGS}",
            "  --workdir=DIR   folder of the results; default: runs/<config name>",
            *general,
        ]
        values = flat(json.loads(config.to_json_best_effort()))
        file = config_flags.get_config_filename(flags.FLAGS["config"])
        comments = _comments(CONFIGS / "digits.py") | _comments(pathlib.Path(file))
        fields = ["", "Fields of this config, with their values:"]
        for name, value in values.items():
            field = f"  --config.{name}={_typed(value)}"
            comment = comments.get(name)
            fields.append(f"{field:<46}  {comment}" if comment else field)
    # Those of a file that is run are listed by its path.
    listed = flags.FLAGS.flags_by_module_dict()
    own = [
        flag
        for module, defined in listed.items()
        if module == sys.argv[0] or (config and module.startswith("experiments."))
        for flag in defined
        if not config or flag.name not in ("config", "workdir", "quiet", "verbose")
    ]
    return "\n".join(
        [
            text,
            "",
            "Flags:",
            *general,
            *(
                textwrap.fill(
                    f"  --{flag.name}={flag.value}  {flag.help}",
                    88,
                    subsequent_indent=" " * 6,
                    break_on_hyphens=False,
                )
                for flag in own
            ),
            *fields,
            "",
            f"Exit codes: {codes}.",
        ]
    )


def _comments(file: pathlib.Path) -> dict[str, str]:
    """What a config file says of its fields, each in its line."""
    lines = re.findall(r"^ *config\.([\w.]+) = .*?  # (.+)$", file.read_text(), re.M)
    return dict(lines)


def _same_everywhere(config: Config) -> dict[str, Any]:
    """What all processes of a search are asked for: not where their files lie."""
    asked = json.loads(config.to_json_best_effort())
    with contextlib.suppress(KeyError, TypeError):  # a config of one's own
        data = asked["data"]
        files = {"name", "test"} & data.keys()
        data |= {name: pathlib.Path(data[name]).name for name in files}
        data["dir"] = ""
    own = flags.FLAGS.flags_by_module_dict().get(sys.argv[0], [])
    places = ("workdir", "fork", "source")
    return asked | {f"--{one.name}": one.value for one in own if one.name not in places}


def _typed(value: Any) -> str:
    """The value of a field as one would type it."""
    if isinstance(value, list):
        return f'"{tuple(value)}"'
    return repr(value) if value == "" else str(value)


def load_data(config: Config, **more: Any) -> Dataset:
    """The data set that `config.data` and `more` describe, split by `config.seed`."""
    fields = config.data.to_dict()
    name, directory = fields.pop("name"), fields.pop("dir", "")
    with checks.named("data", fields):
        return data.load(name, data_dir=directory, seed=config.seed, **fields, **more)


def grid(config: Config) -> carbon.Grid | None:
    """That which `config.energy` names; None if it names none."""
    energy = config.energy
    with checks.named("energy", energy):
        return carbon.grid(energy.region, energy.intensity, energy.pue)


def assumed_power(config: Config) -> Assumed | None:
    """Of what has no counter, as `config.energy` assumes it; None for 0 W."""
    watts, utilisation = config.energy.tdp_watts, config.energy.utilisation
    with checks.named("energy", config.energy):
        assumed = Assumed(watts, utilisation)
    return assumed if watts else None


def check_folder(path: pathlib.Path) -> None:
    """Whether there is a folder at `path`, or one can be made, to write to.

    Raises:
      InputError: neither.
    """
    above = (path, *path.absolute().parents)
    there = next(one for one in above if os.path.lexists(one))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        what = "may not be written" if there.is_dir() else "is no folder"
        raise InputError(f"--workdir={path}: {there} {what}; name another")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      InputError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        content = error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged ({content}); remove it to make it anew")
    return content


def _default(name: str) -> Config:
    return importlib.import_module(f"experiments.configs.{name}").get_config()


def _field(error: Exception) -> str:
    """The field, and what ml_collections thinks was meant, without its quoting."""
    text = str(error).replace("\\n", "; ").replace("\\'", "'")
    return text.strip("\"'").replace("'", "")


def _exit(error: Exception | str) -> NoReturn:
    line = " ".join(str(error).split())
    print(f"error: {line}", file=sys.stderr)
    pod.end(2)
