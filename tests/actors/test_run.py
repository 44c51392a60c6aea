"""How a run ends that does not end in good order, and what is said of it."""

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors.plans import stream_plan
from actors.run import run
from pipeline.config_file import parse_config
from pipeline.errors import RunError
from pipeline.models.card import read_card
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.run_status import read_run
from tests.models_for_tests import TINY

pytestmark = pytest.mark.usefixtures("ray_session")


def plan_with(load, trained, redis_url, folder: Path):
    cameras = [{"id": "gate", "url": str(trained.dataset.test[0].url)}]
    config = parse_config({**TINY, "cameras": cameras, "output": {"folder": str(folder)}})
    plan = stream_plan(config, read_card(trained.folder), trained.folder, redis_url)
    return replace(plan, load_stand_in=load)


def never_loads():
    threading.Event().wait()


def cannot_load():
    raise OSError("no such weights")


def told(redis_url):
    return [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("run_")]


def test_a_run_that_is_stopped_while_its_actors_start_has_ended_and_is_not_lost(trained, redis_url, tmp_path):
    for number in (1, 2):
        stop = threading.Event()

        def stop_once_begun(number=number, stop=stop):
            while [notice["kind"] for notice in told(redis_url)].count("run_started") < number:
                time.sleep(0.05)
            stop.set()

        threading.Thread(target=stop_once_begun, daemon=True).start()
        with pytest.raises(RunError, match="stopped before all actors had started; nothing was scored"):
            run(plan_with(never_loads, trained, redis_url, tmp_path / "run"), address=None, stop=stop)
        assert [notice["kind"] for notice in told(redis_url)] == ["run_started", "run_ended"] * number
        status = read_run(redis_url)
        assert (status["state"], status["is_alive"]) == ("ended", False)
        assert status["reason"] == "stopped before all actors had started; nothing was scored"


def test_a_run_whose_detector_cannot_start_says_so_at_once_and_why(trained, redis_url, tmp_path):
    with pytest.raises(RunError, match=r"run-\w+-detector-0 did not start: OSError: no such weights"):
        run(plan_with(cannot_load, trained, redis_url, tmp_path / "run"), address=None, stop=threading.Event())
    started, lost = told(redis_url)
    assert (started["kind"], lost["kind"]) == ("run_started", "run_lost")
    assert lost["event_id"] == started["event_id"]
    assert re.fullmatch(r"the run failed: run-\w+-detector-0 did not start: OSError: no such weights", lost["reason"])
    status = read_run(redis_url)
    assert (status["state"], f"the run failed: {status['reason']}") == ("failed", lost["reason"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "it was interrupted"),
        (SystemExit(1), "SystemExit: 1"),
        (OSError("rtsp://viewer:hunter2@gate/main: no room"), "OSError: rtsp://***@gate/main: no room"),
    ],
)
def test_a_run_that_is_left_in_any_way_says_so_at_once_and_why(trained, redis_url, tmp_path, error, reason):
    def leave(status):
        raise error

    plan = plan_with(None, trained, redis_url, tmp_path / "run")
    with pytest.raises(type(error)):
        run(plan, address=None, stop=threading.Event(), on_status=leave)
    started, lost = (notice for notice in told(redis_url))
    assert (started["kind"], lost["kind"]) == ("run_started", "run_lost")
    assert (lost["event_id"], lost["reason"]) == (started["event_id"], f"the run failed: {reason}")
    status = read_run(redis_url)
    assert (status["state"], status["reason"], status["is_alive"]) == ("failed", reason, False)


def test_a_run_whose_last_news_its_terminal_does_not_take_has_ended_all_the_same(trained, redis_url, tmp_path):
    def leave_at_the_end(status):
        if status.done and status.alerts.get("waiting") == 0 and read_run(redis_url)["state"] == "ended":
            raise BrokenPipeError

    plan = plan_with(None, trained, redis_url, tmp_path / "run")
    with pytest.raises(BrokenPipeError):
        run(plan, address=None, stop=threading.Event(), on_status=leave_at_the_end)
    assert [notice["kind"] for notice in told(redis_url)] == ["run_started", "run_ended"]
    assert read_run(redis_url)["state"] == "ended"


def test_a_status_that_redis_refuses_is_one_of_the_runs_troubles(trained, server, tmp_path):
    server.client().execute_command("ACL", "SETUSER", "run", "on", ">hunter2secret", "~cflow:*", "+@all", "-set")
    redis_url, seen = server.url.replace("unix://", "unix://run:hunter2secret@"), []
    plan = plan_with(None, trained, redis_url, tmp_path / "run")
    final = run(plan, address=None, stop=threading.Event(), on_status=lambda status: seen.extend(status.troubles))
    assert all(camera.state == "finished" for camera in final.cameras)
    (trouble,) = {trouble.text for trouble in seen}
    assert "how the run stands is not written, and it looks dead: Redis refuses" in trouble
    assert "hunter2secret" not in trouble
