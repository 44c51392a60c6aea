"""A run that does not get as far as reading its cameras."""

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors.plans import stream_plan
from actors.session import run
from pipeline.config_file import parse_config
from pipeline.errors import RunError
from pipeline.models.card import read_card
from pipeline.sinks.redis_reader import read_alerts
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


def test_a_run_whose_detector_cannot_start_says_so_at_once_and_why(trained, redis_url, tmp_path):
    with pytest.raises(RunError, match=r"run-\w+-detector-0 did not start: OSError: no such weights"):
        run(plan_with(cannot_load, trained, redis_url, tmp_path / "run"), address=None, stop=threading.Event())
    started, lost = told(redis_url)
    assert (started["kind"], lost["kind"]) == ("run_started", "run_lost")
    assert lost["event_id"] == started["event_id"]
    assert re.fullmatch(r"the run failed: run-\w+-detector-0 did not start: OSError: no such weights", lost["reason"])
