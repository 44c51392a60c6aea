"""Reads damaged videos in a process of its own, because a fault in FFmpeg may end the process or never come back.

    python -m tests.fuzz.video_worker

takes one path per line and answers each with one JSON line: what came of it, or what must never come of it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

from pipeline.errors import VideoError
from pipeline.video.read_back import copy_readable
from pipeline.video.segment import SUFFIX
from pipeline.video.source import open_source

ROOT = Path(__file__).parents[2]
SIZE_PX = (24, 32)
_MEMORY_BYTES = 4 << 30
_ANSWER_WITHIN_S = 20.0


def read(path: Path) -> str:
    """Read a video the way training does; a recording also the way the next recording salvages it."""
    if path.suffix == SUFFIX:
        target = path.with_suffix(".copy")
        copy_readable(path, target)
        target.unlink(missing_ok=True)
    try:
        with open_source(str(path), SIZE_PX, gap_s=0.1) as source:
            count = 0
            for frame in source:
                count += 1
                assert frame.image.shape == (*SIZE_PX, 3), frame.image.shape
            assert source.decoded == count > 0
            assert source.missing() >= 0
            assert min(source.corrupt, source.decode_errors) >= 0
    except VideoError as error:
        assert str(error).isprintable(), repr(str(error))
        return "refused"
    return "frames"


class Worker:
    """The process, started again after it died.

    Attributes:
        outcomes: how often what came of a file.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> None:
        """Have a file read.

        Raises:
            AssertionError: it crashed or held the process, or something else came of it than frames or VideoError.
        """
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        with DefaultSelector() as selector:
            selector.register(process.stdout, EVENT_READ)
            answered = bool(selector.select(_ANSWER_WITHIN_S))
        line = process.stdout.readline() if answered else ""
        if not line:
            self.close()
            came = f"its end ({process.returncode})" if answered else f"no answer in {_ANSWER_WITHIN_S:g} s"
            raise AssertionError(f"{path}: expected frames or VideoError, got {came}")
        answer = json.loads(line)
        assert "fault" not in answer, f"{path}: {answer['fault']}"
        self.outcomes[answer["came"]] = self.outcomes.get(answer["came"], 0) + 1

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def video_worker() -> Iterator[Worker]:
    """A worker that ends with the block."""
    worker = Worker()
    try:
        yield worker
    finally:
        worker.close()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.video_worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        try:
            answer = {"came": read(Path(line.rstrip("\n")))}
        except BaseException:
            answer = {"fault": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
