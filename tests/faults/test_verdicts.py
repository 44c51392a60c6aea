"""What was dismissed is silent while the run goes on, and after its scorer died."""

import time
from dataclasses import replace

import psutil
import pytest
import ray

from actors.cluster import NAMESPACE
from pipeline.console.verdicts import verdict_on
from pipeline.run_folder import RunFolder
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.verdicts import add_verdict, read_verdicts
from tests.faults.live import LiveRun, live_config
from tests.rtsp import write_footage

pytestmark = pytest.mark.usefixtures("ray_session")


def silent_since(url, since_s):
    """Whether the anomalous frames among the newest ones that were captured since then are all silent."""
    found = [score for score in read_scores(url, "yard", 500) if score["captured_at_s"] > since_s]
    anomalous = [score["suppressed"] for score in found if score["is_anomalous"]]
    return len(anomalous) >= 3 and set(anomalous[-3:]) == {"dismissed"}


def test_the_like_of_a_dismissed_event_is_silent_also_after_its_scorer_died(trained, tmp_path):
    video = write_footage(tmp_path / "a.mp4")
    with EmbeddedRedis(tmp_path / "redis") as url:
        cameras = {"cameras": [{"id": "yard", "url": str(video), "loop": True}]}
        live = LiveRun(live_config({}, tmp_path / "run", url, **cameras), trained.folder)
        live.wait(lambda: live.camera("yard").scoring.events > 0 if live.status.cameras else False, "an event", 120.0)
        live.wait(lambda: any(alert["kind"] == "new" for alert in read_alerts(url)), "its alert")
        event = next(alert["event_id"] for alert in read_alerts(url) if alert["kind"] == "new")
        # Half of all frames alarm here, at any place and height.
        said = replace(verdict_on(url, event, "dismissed", time.time(), 600.0), region=None, peak_smoothed=1e6)
        add_verdict(RunFolder(live.folder).verdicts_file, said)
        live.wait(lambda: silent_since(url, 0.0), "it is silent")
        handle = ray.get_actor(live.plan.scorers[0], namespace=NAMESPACE)
        psutil.Process(ray.get(handle.pid.remote(), timeout=60.0)).kill()
        killed_at_s = time.time()
        live.wait(lambda: any("scorer-0 died" in trouble for trouble in live.troubles), "its death is told")
        live.wait(lambda: silent_since(url, killed_at_s), "it is silent still")
        live.end()
        assert read_verdicts(RunFolder(live.folder).verdicts_file) == {event: said}
