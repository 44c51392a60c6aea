import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import PackageError
from pipeline.inference.package_store import PackageStore

ROOT = Path(__file__).parents[2]
FILES = ("encoder.so", "flows.so")


def write_files(out: Path, within_s: float) -> None:
    assert within_s > 0.0
    for name in (*FILES, "flows.cpp"):
        (out / name).write_text("code")


def refuse(out: Path, within_s: float) -> None:
    (out / FILES[0]).write_text("half of it")
    raise PackageError("the compiler refused")


def never(out: Path, within_s: float) -> None:
    raise AssertionError("it was made once more")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in {"lock", "in-use"})


@pytest.fixture
def store(tmp_path):
    return PackageStore(tmp_path)


def test_a_package_is_made_once_and_holds_what_is_kept_of_it(store):
    with store.held("key") as package:
        assert package is None
    store.make("key", FILES, write_files)
    store.make("key", FILES, never)
    with store.held("key") as package:
        assert package == store.folder / "key"
        assert names(package) == sorted(FILES)
    assert names(store.folder) == ["key"]


MAKE_AT_ONCE = """
import os, sys, time
from pathlib import Path
from pipeline.inference.package_store import PackageStore

def build(out, within_s):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(0.3)
    (out / "code.so").write_text("code")

print("ready", flush=True)
sys.stdin.read()
PackageStore(Path(sys.argv[1])).make("key", ["code.so"], build)
"""


def test_of_several_processes_that_want_a_package_at_once_one_makes_it(tmp_path):
    (tmp_path / "packages").mkdir()
    command = [sys.executable, "-c", MAKE_AT_ONCE, str(tmp_path / "packages"), str(tmp_path / "log")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.close()
    assert [process.wait(30.0) for process in processes] == [0, 0, 0, 0]
    for process in processes:
        process.stdout.close()
    assert (tmp_path / "log").read_text() == "made\n"
    assert names(tmp_path / "packages") == ["key"]


def test_what_failed_is_not_tried_by_others_for_an_hour(store):
    with pytest.raises(PackageError, match=r"^the compiler refused$"):
        store.make("key", FILES, refuse)
    assert names(store.folder) == ["key.failed"]  # nothing half made
    with pytest.raises(PackageError, match=r"^it failed before .*key\.failed is deleted: the compiler refused$"):
        PackageStore(store.folder).make("key", FILES, never)
    store.make("other", FILES, write_files)
    hour_ago = time.time() - 3601.0
    os.utime(store.folder / "key.failed", (hour_ago, hour_ago))
    store.make("key", FILES, write_files)
    assert names(store.folder) == ["key", "other"]


def test_nobody_waits_for_others_without_end(tmp_path):
    store = PackageStore(tmp_path, made_within_s=0.2)
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(PackageError, match=r"others were compiling for most of 0\.2 s"):
            store.make("key", FILES, never)
    assert names(tmp_path) == []  # nothing failed: the next one may try
    store.make("key", FILES, write_files)


def test_nothing_is_begun_that_would_have_to_be_given_up(tmp_path):
    store = PackageStore(tmp_path, made_within_s=2.0)
    other = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    lets_go = threading.Timer(1.5, os.close, [other])
    lets_go.start()
    with pytest.raises(PackageError, match="others were compiling"):
        store.make("key", FILES, never)
    lets_go.join()
    assert names(tmp_path) == []


def test_nobody_deletes_a_package_that_is_being_loaded(store):
    store.make("key", FILES, write_files)
    deletes = threading.Thread(target=store.forget, args=("key",))
    with store.held("key") as package:
        deletes.start()
        deletes.join(0.3)
        assert deletes.is_alive()
        assert names(package) == sorted(FILES)
        with store.held("key") as as_well:
            assert as_well == package
    deletes.join(10.0)
    with store.held("key") as package:
        assert package is None


def test_the_packages_that_were_used_last_are_kept_and_what_was_left_half_made_is_not(store):
    for number in range(9):
        (store.folder / f"key-{number}").mkdir()
        os.utime(store.folder / f"key-{number}", (number, number))
    with store.held("key-0"):
        pass  # used now
    for name in (".staged", ".lives"):
        (store.folder / name / "work").mkdir(parents=True)
    os.utime(store.folder / ".staged", (0, 0))
    (store.folder / "gone.failed").write_text("long ago")
    os.utime(store.folder / "gone.failed", (0, 0))
    store.make("new", FILES, write_files)
    assert names(store.folder) == [".lives", "key-0", *(f"key-{number}" for number in range(3, 9)), "new"]
