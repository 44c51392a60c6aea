"""Where packages are kept: who makes one, who may load one, and when one is deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.abandoned import changed_at, forget_abandoned
from pipeline.errors import PackageError
from pipeline.files import replace_folder_whole

_KEPT = 8
_MADE_WITHIN_S = 120.0  # a detector that has not answered for 180 s is killed, and it has more to do than this
_LOADED_WITHIN_S = 30.0
_FAILED_FOR_S = 3600.0
_PAUSE_S = 0.05


class PackageStore:
    """A user's packages on a machine, shared by all its processes; a package is whole or not there at all.

    Args:
        folder: where they are; nobody else may be able to write into it.
        made_within_s: how long a process waits for a package, others that are made before it included.
    """

    def __init__(self, folder: Path, made_within_s: float = _MADE_WITHIN_S) -> None:
        self.folder = folder
        self._made_within_s = made_within_s

    @contextmanager
    def held(self, key: str) -> Iterator[Path | None]:
        """A package's folder, which nobody deletes while the block lasts; None where there is none.

        Args:
            key: the package's name.

        Raises:
            OSError: the folder of packages cannot be used.
        """
        with self._locked("in-use", fcntl.LOCK_SH, time.monotonic() + _LOADED_WITHIN_S):
            package = self.folder / key
            try:
                os.utime(package)
            except FileNotFoundError:
                package = None
            yield package

    def make(self, key: str, files: Sequence[str], build: Callable[[Path, float], None]) -> None:
        """Make a package; of several processes that want it at once, one makes it and the others wait.

        Where that fails, nobody tries again for an hour: it would cost every detector of a run minutes.

        Args:
            key: the package's name.
            files: what of it is kept.
            build: given an empty folder and the seconds it may take, writes the files there, beside whatever else.

        Raises:
            PackageError: it failed, now or within the last hour, or took too long.
            OSError: the folder of packages cannot be used.
        """
        give_up_at = time.monotonic() + self._made_within_s
        self._raise_if_failed_before(key)
        with ExitStack() as held:
            try:
                held.enter_context(self._locked("lock", fcntl.LOCK_EX, give_up_at))
            except TimeoutError:
                raise self._others_compile() from None
            if (self.folder / key).exists():
                return
            self._raise_if_failed_before(key)
            if give_up_at - time.monotonic() < self._made_within_s / 2:
                raise self._others_compile()  # begun now, it might take too long and count as failed
            self._forget_old()
            try:
                self._build(key, files, build, give_up_at)
            except PackageError as error:
                self.note_failure(key, str(error))
                raise

    def note_failure(self, key: str, why: str) -> None:
        """Let nobody try to make a package for an hour.

        Args:
            key: the package's name.
            why: in one line.
        """
        with contextlib.suppress(OSError):  # a full disk may be why
            self._failure(key).write_text(why, encoding="utf-8")

    def forget(self, key: str) -> None:
        """Delete a package, once nobody holds it.

        Raises:
            OSError: the folder of packages cannot be used.
        """
        with self._locked("in-use", fcntl.LOCK_EX, time.monotonic() + _LOADED_WITHIN_S):
            shutil.rmtree(self.folder / key, ignore_errors=True)

    def _build(self, key: str, files: Sequence[str], build: Callable[[Path, float], None], give_up_at: float) -> None:
        # Whole after a power cut, too: a library that is half written would kill whoever loads it.
        with replace_folder_whole(self.folder / key) as staged:
            work = staged / "work"  # beside what is kept a compiler leaves its sources
            work.mkdir(mode=0o700)
            build(work, give_up_at - time.monotonic())
            for name in files:
                (work / name).rename(staged / name)
            shutil.rmtree(work)

    def _others_compile(self) -> PackageError:
        return PackageError(f"others were compiling for most of {self._made_within_s:g} s")

    def _failure(self, key: str) -> Path:
        return self.folder / f"{key}.failed"

    def _raise_if_failed_before(self, key: str) -> None:
        path = self._failure(key)
        failed_at = changed_at(path)
        if failed_at is not None and time.time() - failed_at < _FAILED_FOR_S:
            why = path.read_text(encoding="utf-8", errors="replace")
            raise PackageError(f"it failed before and is not tried for an hour, unless {path} is deleted: {why}")

    def _forget_old(self) -> None:
        """Keep the packages that were used last, and nothing that a killed process left half made."""
        forget_abandoned(self.folder, ".*")
        packages = sorted(self.folder.glob("[!.]*/"), key=lambda path: changed_at(path) or 0.0, reverse=True)
        with contextlib.suppress(TimeoutError):  # the next one who makes a package does it
            for path in packages[_KEPT - 1 :]:
                self.forget(path.name)
        for path in self.folder.glob("*.failed"):
            if (changed_at(path) or 0.0) < time.time() - _FAILED_FOR_S:
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, name: str, how: int, give_up_at: float) -> Iterator[None]:
        """Hold a file; the kernel releases it for a process that dies.

        Raises:
            TimeoutError: others hold it still at ``give_up_at``, monotonic seconds.
        """
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= give_up_at:
                        raise TimeoutError(f"{self.folder / name}: others hold it") from None
                    time.sleep(_PAUSE_S)
            yield
        finally:
            os.close(descriptor)
