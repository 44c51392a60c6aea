"""Cameras at HTTP addresses through a whole run: one that is asked for each picture, and one that sends JPEGs."""

import io
import itertools
import os
import signal
import threading
import time

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BadInputError
from pipeline.sinks.locate import readable_redis
from pipeline.sinks.redis_reader import read_alerts
from pipeline.video.source import open_source
from tests.actors.test_commands import stream, wait_for
from tests.http_camera import Snapshots, that_sends

pytestmark = pytest.mark.usefixtures("ray_session")

BEGINS, ENDS, RATE_FPS = 5, 15, 10.0
ALERTS = {"quantile": 0.995, "smoothing_s": 0.1, "open_frames": 2, "update_s": 0.5, "close_s": 0.3, "cooldown_s": 0}


def jpegs(clip):
    """Two normal pictures by turns, and noise in between."""
    with open_source(str(clip.url), (64, 96)) as source:
        normal = [frame.image for frame in itertools.islice(source, 1, 3)]
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for number in itertools.count():
        buffer = io.BytesIO()
        Image.fromarray(noise if BEGINS <= number < ENDS else normal[number % 2]).save(buffer, "JPEG", quality=95)
        yield buffer.getvalue()


def test_an_event_over_many_pictures_is_told_with_the_times_at_which_they_came(trained, tmp_path):
    clip = trained.dataset.train[0]
    sent_at_s = {"polled": [], "pushed": []}
    made = {name: jpegs(clip) for name in sent_at_s}

    def next_of(name):
        picture = next(made[name])
        sent_at_s[name].append(time.time())
        return picture

    def push(write, wait):
        while not wait(1 / RATE_FPS):
            write(b"--cut\r\nContent-Type: image/jpg\r\n\r\n" + next_of("pushed") + b"\r\n")

    def told():
        try:
            with readable_redis(tmp_path / "stream.yaml") as url:
                return [alert for alert in read_alerts(url) if alert["camera_id"] in sent_at_s]
        except BadInputError:  # it has not started yet
            return []

    def stop_when_told():
        try:
            wait_for(lambda: {alert["camera_id"] for alert in told() if alert["kind"] == "end"} == set(sent_at_s))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with (
        Snapshots(lambda number, camera: (200, {"Content-Type": "image/jpeg"}, next_of("polled"))) as polled,
        that_sends(push, "multipart/x-mixed-replace; boundary=cut") as pushed,
    ):
        threading.Thread(target=stop_when_told, daemon=True).start()
        cameras = {
            name: {"id": name, "url": url, "scene": clip.scene, "sample_fps": RATE_FPS, "buffer_frames": 100}
            for name, url in (("polled", polled.url), ("pushed", pushed))
        }
        _, scores = stream(trained, tmp_path, cameras, camera_defaults={"alerts": ALERTS, "max_frame_age_s": 60.0})
    for name, sent_s in sent_at_s.items():
        said = f"camera {name}: its stream has no clock: its pictures are timed by their arrival"
        assert stream.printed.count(said) == 1
        rows = scores[name]
        assert set(rows.session) == {0}
        new, *updates, end = [a for a in told() if a["camera_id"] == name and a["kind"] != "evidence"]
        assert (new["kind"], {alert["kind"] for alert in updates}, end["kind"]) == ("new", {"update"}, "end")
        assert new["event_id"] == end["event_id"]
        at_s = {"begins": new["start_s"], "ends": end["end_s"]}
        assert set(at_s.values()) <= set(rows.media_time_s)
        for media_time_s in at_s.values():
            row = list(rows.media_time_s).index(media_time_s)
            passed_s = media_time_s - rows.media_time_s[0]
            number = rows.index[row]
            assert sent_s[number] - rows.captured_at_s[0] <= passed_s + 1e-3
            assert passed_s <= rows.captured_at_s[row] - sent_s[0] + 1e-3
        assert end["end_s"] - new["start_s"] > 0.5
        *_, shown = [alert for alert in told() if alert["camera_id"] == name and alert["kind"] == "evidence"]
        assert shown["event_id"] == new["event_id"] and shown["end_s"] == end["end_s"]
        with av.open(str(tmp_path / "run" / shown["clip"])) as clip:
            times_s = [frame.time for frame in clip.decode(video=0)]
        assert times_s[-1] >= end["end_s"] - max(new["start_s"] - 5.0, rows.media_time_s[0]) - 1e-3
        assert len(times_s) <= len(sent_s)  # also of pictures that were thinned away or dropped
        with Image.open(tmp_path / "run" / shown["picture"]) as picture:
            assert picture.size[0] == 96
