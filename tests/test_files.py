import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from dnc_jax import files

# Replaces the folder `best` and ends, without cleaning up, at one of two renames.
KILLED = """
import os, pathlib, runpy, sys

_, module, folder, at = sys.argv
new_folder = runpy.run_path(module)["new_folder"]
rename, renames = pathlib.Path.rename, []


def killed(path, target):
    renames.append(path)
    if len(renames) == int(at):
        os._exit(9)
    return rename(path, target)


pathlib.Path.rename = killed
with new_folder(pathlib.Path(folder) / "best") as new:
    (new / "content").write_text("new")
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def written(path, content):
    with files.new_file(path) as file:
        file.write(content)


def make(path, content):
    with files.new_folder(path) as folder:
        (folder / "content").write_text(content)


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / "f"
    written(path, b"old")
    with files.new_file(path, sync=True) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


def test_a_folder_is_there_when_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / "above" / "best"
    make(path, "old")
    with files.new_folder(path) as folder:
        (folder / "content").write_text("new")
        assert (path / "content").read_text() == "old"
    assert (path / "content").read_text() == "new"
    assert names(path.parent) == ["best"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path, error):
    written(tmp_path / "f", b"old")
    make(tmp_path / "best", "old")

    def half_a_file():
        with files.new_file(tmp_path / "f") as file:
            file.write(b"half")
            raise error

    def half_a_folder():
        with files.new_folder(tmp_path / "best") as folder:
            (folder / "content").write_text("half")
            raise error

    for fail in (half_a_file, half_a_folder):
        with pytest.raises(error):
            fail()
    assert names(tmp_path) == ["best", "f"]
    assert (tmp_path / "f").read_bytes() == b"old"
    assert (tmp_path / "best" / "content").read_text() == "old"


def test_a_folder_that_cannot_be_moved_to_its_place_gives_back_the_former(
    tmp_path, monkeypatch
):
    make(tmp_path / "best", "old")
    rename = files.pathlib.Path.rename

    def full(path, target):
        if path.suffix == ".partial":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(files.pathlib.Path, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        make(tmp_path / "best", "new")
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "content").read_text() == "old"


def test_a_users_own_neighbours_are_left_alone(tmp_path):
    own = ["best.old", "best.partial", "f.partial", ".f-1.partial", ".best-mine.former"]
    for name in own:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    for _ in range(2):
        make(tmp_path / "best", "new")
        written(tmp_path / "f", b"new")
    assert names(tmp_path) == sorted([*own, "best", "f"])


@pytest.mark.parametrize("at", [1, 2])
def test_a_process_killed_while_it_replaces_a_folder_leaves_a_whole_one(tmp_path, at):
    make(tmp_path / "best", "old")
    command = [sys.executable, "-c", KILLED, files.__file__, str(tmp_path), str(at)]
    assert subprocess.run(command).returncode == 9
    former = tmp_path / "best" if at == 1 else next(tmp_path.glob(".best-*.former"))
    assert (former / "content").read_text() == "old"
    (new,) = tmp_path.glob(".best-*.partial")
    assert (new / "content").read_text() == "new"
    os.utime(new, (0, 0))
    make(tmp_path / "best", "newest")
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "content").read_text() == "newest"


def test_what_another_process_writes_is_left_to_it_for_a_day(tmp_path):
    left = [tmp_path / f".f-{digit * 16}.partial" for digit in "0a"]
    for path in left:
        path.touch()
    day_ago = time.time() - 24 * 3600 - 60
    os.utime(left[0], (day_ago, day_ago))
    written(tmp_path / "f", b"new")
    assert names(tmp_path) == [left[1].name, "f"]


def test_many_threads_may_write_one_file_at_a_time(tmp_path):
    path, contents = tmp_path / "f", [bytes([n]) * 100_000 for n in range(8)]
    together = threading.Barrier(len(contents))

    def write(content):
        with files.new_file(path) as file:
            together.wait()
            file.write(content)

    threads = [threading.Thread(target=write, args=(one,)) for one in contents]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["f"]


def test_others_may_read_what_the_system_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        written(tmp_path / "f", b"")
        make(tmp_path / "best", "")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("f", "best")]
    assert modes == [0o644, 0o755]


def test_what_a_link_points_to_is_replaced_and_the_link_kept(tmp_path):
    make(tmp_path / "disk" / "best", "old")
    (tmp_path / "best").symlink_to(tmp_path / "disk" / "best")
    make(tmp_path / "best", "new")
    assert (tmp_path / "best").is_symlink()
    assert (tmp_path / "disk" / "best" / "content").read_text() == "new"
    assert names(tmp_path / "disk") == ["best"]
