"""Writes report.html of a work folder again, serves it live, or saves its figures.

  python -m experiments.report --workdir=runs/digits
  python -m experiments.report --workdir=runs/digits --serve
  python -m experiments.report --workdir=runs/digits --images=pdf

--serve answers on this machine's loopback only and keeps up with a running search.
"""

import pathlib

from absl import flags

from dnc_jax.errors import InputError
from dnc_jax.report import live, page
from experiments import launch

WORKDIR = flags.DEFINE_string("workdir", None, "Work folder of a search.")
SERVE = flags.DEFINE_bool("serve", False, "Serve the report on http://127.0.0.1.")
PORT = flags.DEFINE_integer("port", 8321, "Of --serve; 0: any that is free.", 0, 65535)
IMAGES = flags.DEFINE_enum(
    "images",
    None,
    ["png", "svg", "pdf"],
    "Save each figure to the folder `figures` of the work folder; needs the extra "
    "`images` and an installed Chrome or Chromium.",
)


def main() -> None:
    """Writes, serves or saves."""
    if WORKDIR.value is None:
        raise InputError("name the work folder of a search: --workdir=DIR")
    if SERVE.value and IMAGES.value:
        raise InputError("--serve saves no figures; give --images in a second command")
    workdir = pathlib.Path(WORKDIR.value)
    if SERVE.value:
        serve(workdir, PORT.value)
    elif IMAGES.value:
        print(page.save_images(workdir, IMAGES.value))
    else:
        print(page.write(workdir))


def serve(workdir: pathlib.Path, port: int) -> None:
    """Serves until Ctrl-C."""
    with live.server(workdir, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    launch.run_flags(main)
