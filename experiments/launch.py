"""What every launch file shares: flags, and errors in one line."""

import importlib
import json
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from dnc_jax.errors import InputError
from dnc_jax.training import compilation, data
from dnc_jax.training.data import Dataset
from experiments import checks

CONFIGS = pathlib.Path(__file__).parent / "configs"

# A ConfigDict; its fields are known at run time only.
Config = Any
Main = Callable[[Config, pathlib.Path], None]

_TERMINATED = ("terminated",)  # arguments of the interrupt that SIGTERM becomes


def run(main: Main, default_config: str, on_interrupt: str) -> None:
    """Parses --config and --workdir, runs `main(config, workdir)` and exits.

    Unusable input (a bad flag, an unknown config field, an `InputError`, a file
    system that refuses) ends with one line on standard error and exit code 2. Ctrl-C
    and SIGTERM, which preemptible machines and schedulers send, end with the line
    `on_interrupt` and 128 plus the number of the signal: 130 and 143.

    Args:
      main: the launch file's work.
      default_config: name of the file in experiments/configs used without --config.
      on_interrupt: says what becomes of the work, and how to go on.
    """
    try:
        config = config_flags.DEFINE_config_file(
            "config",
            str(CONFIGS / f"{default_config}.py"),
            "Config file. Every field of it is a flag too: --config.seed=3.",
        )
    except (AttributeError, KeyError) as error:
        # Overrides are looked up here already, in the default config.
        _exit(f"unknown config field {_field(error)}")
    except (TypeError, ValueError, OSError) as error:
        _exit(error)
    workdir = flags.DEFINE_string(
        "workdir", None, "Folder of the results. Default: runs/<config name>."
    )
    cache = flags.DEFINE_string(
        "compilation_cache",
        "",
        "Folder of compiled programs, which later runs use again; 'off' keeps none. "
        "Default: dnc_jax in the user's cache folder.",
    )

    def checked(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise InputError(
                    f"unexpected argument {argv[1]!r}; a flag starts with --"
                )
            file = config_flags.get_config_filename(flags.FLAGS["config"])
            name = pathlib.Path(file).stem
            folder = pathlib.Path(workdir.value or pathlib.Path("runs") / name)
            try:  # ml_collections loads the file only now
                checks.check(config.value, _default(default_config))
            except (OSError, flags.Error) as error:
                raise InputError(f"cannot read the config: {error}") from error
            compilation.keep(cache.value)
            main(ml_collections.ConfigDict(config.value.to_dict()), folder)
        except (InputError, OSError) as error:
            _exit(error)
        except KeyboardInterrupt as error:
            number = signal.SIGTERM if error.args == _TERMINATED else signal.SIGINT
            print(f"\ninterrupted; {on_interrupt}", file=sys.stderr)
            sys.exit(128 + number)

    def terminate(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt(*_TERMINATED)

    signal.signal(signal.SIGTERM, terminate)
    # JAX and Orbax narrate at the level INFO; --verbosity=0 brings that back.
    logging.set_verbosity(logging.WARNING)
    app.run(checked, flags_parser=_parse)


def run_flags(main: Callable[[], None]) -> None:
    """As `run`, for a launch file that has flags of its own instead of a config."""

    def checked(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise InputError(
                    f"unexpected argument {argv[1]!r}; a flag starts with --"
                )
            main()
        except (InputError, OSError) as error:
            _exit(error)

    app.run(checked, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        _exit(f"unknown config field {_field(error)}")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _exit(error)
    except Exception as error:  # a config is code, which may fail in any way
        _exit(f"cannot read the config: {type(error).__name__}: {error}")


def load_data(config: Config) -> Dataset:
    """The data set that `config.data` describes, split by `config.seed`."""
    fields = config.data.to_dict()
    return data.load(
        fields.pop("name"), data_dir=fields.pop("dir"), seed=config.seed, **fields
    )


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
    sys.exit(2)
