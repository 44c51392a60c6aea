import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.console.comparison_process import in_subprocess
from pipeline.errors import RunError, ScoresError
from pipeline.signals import end_on_signals, kept_handlers
from pipeline.sinks.parquet_reader import read_clip_scores

ROOT = Path(__file__).parents[2]
LONG_S = 60.0


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


def fail():
    raise ValueError("a fault of ours")


def test_where_a_process_failed_is_shown():
    with pytest.raises(ValueError, match="a fault of ours") as told:
        in_subprocess(fail)
    assert "in fail" in " ".join(told.value.__notes__)


def work_for_hours(file: Path) -> None:
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    signal.pause()


def begun(file: Path) -> psutil.Process:
    give_up_at = time.monotonic() + LONG_S
    while not file.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    return psutil.Process(int(file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_told_to_end_does_not_wait_for_hours_of_work(tmp_path, monkeypatch, number):
    monkeypatch.setattr("pipeline.signals._asked_by", None)
    processes = []

    def interrupt():
        processes.append(begun(tmp_path / "pid"))
        os.kill(os.getpid(), number)

    with kept_handlers(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        end_on_signals()
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            in_subprocess(work_for_hours, tmp_path / "pid")
    assert not processes[0].is_running()


def test_work_ends_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "work.py").write_text("import os, signal; print(os.getpid(), flush=True); signal.pause()")
    code = "import runpy, sys; from pipeline.console.comparison_process import in_subprocess as do; "
    code += "do(runpy.run_path, sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "work.py")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        worker = psutil.Process(int(running.stdout.readline()))
        running.kill()
        worker.wait(LONG_S)
