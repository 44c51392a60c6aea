import os
import signal

import pytest

from pipeline.console.comparison_process import in_subprocess
from pipeline.errors import RunError, ScoresError
from pipeline.sinks.parquet_reader import read_clip_scores


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_named():
    with pytest.raises(RunError, match="expected the process 'die' to end by itself, got one that was killed"):
        in_subprocess(die)


def test_errors_of_a_process_come_back_as_they_were_raised(tmp_path):
    with pytest.raises(ScoresError, match="expected a folder of scores, found none"):
        in_subprocess(read_clip_scores, tmp_path / "nowhere")


def test_what_a_process_gives_comes_back():
    assert in_subprocess(os.getpid) != os.getpid()
