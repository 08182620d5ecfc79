"""The report of a search that is running: a file that keeps up, or a local server."""

import http.server
import pathlib
import time
from collections.abc import Callable, Sequence

from absl import logging

from dnc_jax.report import folder, page
from dnc_jax.report.folder import Moment
from dnc_jax.search import Trial
from dnc_jax.search.results import Callback
from dnc_jax.typing import FilePath

_SHARE = 0.02  # of the time since the last report: at most what a new one may take
_LOOPBACK = "127.0.0.1"


class Reporter(Callback):
    """Keeps the timeline of a search and, after its rungs, report.html.

    Building one is left out while it would take more than a fiftieth of the time
    since the last.

    Args:
      workdir: of the search.
      joules: the energy so far, None where it is not measured.
    """

    def __init__(
        self,
        workdir: FilePath,
        joules: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._workdir, self._joules = pathlib.Path(workdir), joules
        known = folder.read_timeline(self._workdir)
        self._past = known[-1] if known else Moment((), 0.0, None, 0)
        self._begin = time.perf_counter()
        self._next = 0.0

    def on_rung_end(self, trials: Sequence[Trial], resumed: bool, flops: int) -> None:
        """Notes when the rung ended and what it took; writes the report."""
        if resumed:
            return
        joules, past = self._joules(), self._past
        if joules is not None:
            joules += past.joules or 0.0
        moment = Moment(
            tuple((t.candidate_id, t.rung) for t in trials),
            past.seconds + time.perf_counter() - self._begin,
            joules,
            past.flops + flops,
        )
        folder.add_moment(self._workdir, moment)
        begin = time.perf_counter()
        if begin >= self._next:
            self._write()
            end = time.perf_counter()
            self._next = end + (end - begin) / _SHARE

    def _write(self) -> None:
        """Writes report.html; a figure that cannot be drawn ends no search."""
        try:
            page.write(self._workdir)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            logging.warning("report.html is not up to date: %s", what)


def server(workdir: str | pathlib.Path, port: int = 0) -> http.server.HTTPServer:
    """A server of the report on this machine's loopback, always up to date.

    Nobody on the network reaches it. Its `serve_forever()` serves.

    Args:
      workdir: of a search, running or finished.
      port: 0 for any that is free; `server_port` tells which.

    Raises:
      InputError: there is no search in `workdir`.
      OSError: the port is taken.
    """
    folder.read(workdir)
    files = [pathlib.Path(workdir) / name for name in (folder.TIMELINE, folder.SUMMARY)]

    def version() -> str:
        return "-".join(
            str(file.stat().st_mtime_ns) if file.exists() else "0" for file in files
        )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another name means that a foreign page has its own name point here.
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in (_LOOPBACK, "localhost"):
                self.send_error(403)
            elif self.path == "/version":
                self._send(version(), "text/plain")
            elif self.path == "/":
                now = version()
                self._send(page.render(folder.read(workdir), now), "text/html")
            else:
                self.send_error(404)

        def _send(self, text: str, kind: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: a line every other second helps nobody."""

    return http.server.ThreadingHTTPServer((_LOOPBACK, port), Handler)
