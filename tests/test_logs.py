"""Log lines as JSON, for whoever collects them with a tool."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import BadInputError
from pipeline.logs import JsonFormatter, log_about, wants_json

ROOT = Path(__file__).parents[1]
PASSWORD = "hunter2secret"


def logged(say):
    """Objects that a logger writes in a thread of its own."""
    stream = io.StringIO()
    handler, log = logging.StreamHandler(stream), logging.Logger("pipeline.video.somewhere")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    thread = threading.Thread(target=say, args=(log,))
    thread.start()
    thread.join()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_how_bad_where_and_what_in_one_object():
    (said,) = logged(lambda log: log.warning("%d frames\nin two lines", 3))
    assert said["message"] == "3 frames\nin two lines"
    assert (said["level"], said["logger"]) == ("warning", "pipeline.video.somewhere")
    assert said["time"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(said["time"])).total_seconds()) < 3600
    assert said.keys() == {"time", "level", "logger", "message"}


def test_a_thread_says_once_what_its_lines_are_about_and_a_line_may_know_better():
    def say(log):
        log_about(camera="gate")
        log.warning("a")
        log_about(session=3)
        log.warning("b")
        log.warning("c", extra={"camera": "yard"})

    assert [(said.get("camera"), said.get("session")) for said in logged(say)] == [
        ("gate", None),
        ("gate", 3),
        ("yard", 3),
    ]
    (said,) = logged(lambda log: log.warning("another thread"))
    assert "camera" not in said


def test_neither_messages_nor_tracebacks_hold_a_password():
    def say(log):
        try:
            raise OSError(f"rtsp://viewer:{PASSWORD}@10.0.0.7/main: refused")
        except OSError:
            log.exception("reading rtsp://viewer:%s@10.0.0.7/main failed", PASSWORD)

    (said,) = logged(say)
    assert PASSWORD not in json.dumps(said)
    assert "Traceback" in said["error"]
    assert "rtsp://***@10.0.0.7/main: refused" in said["error"]


def command(code, wanted="json"):
    program = f"import logging, sys; sys.argv = ['c']\nimport run_cluster\n{code}"
    environment = {**os.environ, "CFLOW_LOG": wanted, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run(body):
    return f"""
from pipeline.console.entry import run_command
from pipeline.errors import RunError
def app():
    {body}
sys.exit(run_command(app, run_cluster.err))
"""


def test_all_that_a_command_says_on_standard_error_is_json():
    body = (
        "run_cluster.err.print('stopping: [bold]now[/]')\n"
        "    run_cluster.say_answer({'said': 'done', 'warnings': ['careful']})\n"
        "    logging.getLogger('x').warning('logged'); raise RunError('it failed')"
    )
    done = command(run(body))
    assert done.returncode == 1
    assert "done" in done.stdout
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in said] == [
        ("info", "cflow_stream", "stopping: now"),
        ("warning", "cflow_stream", "careful"),
        ("warning", "x", "logged"),
        ("error", "cflow_stream", "it failed"),
    ]


def test_a_fault_of_ours_is_one_object_too():
    (line,) = command(run("raise ZeroDivisionError('a bug')")).stderr.splitlines()
    said = json.loads(line)
    assert said["level"] == "critical"
    assert "ZeroDivisionError: a bug" in said["error"]


def test_another_wish_is_refused_in_one_line():
    done = command(run("return"), wanted="xml")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (2, [])
    assert "CFLOW_LOG: expected json or nothing, got 'xml'" in done.stderr


@pytest.mark.parametrize(("wanted", "answer"), [("", False), ("json", True)])
def test_json_is_logged_where_it_is_asked_for(monkeypatch, wanted, answer):
    monkeypatch.setenv("CFLOW_LOG", wanted)
    assert wants_json() is answer
    monkeypatch.setenv("CFLOW_LOG", "yaml")
    with pytest.raises(BadInputError, match="got 'yaml'"):
        wants_json()
