"""Whoever asks the command for JSON gets it from its actors, too."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.models_for_tests import TINY
from tests.sinks.made import wait_until
from tests.videos import write_images

ROOT = Path(__file__).parents[2]


@pytest.mark.ray
def test_a_camera_process_logs_objects_that_name_the_camera_and_no_password(trained, tmp_path):
    write_images(tmp_path / "images", 5)
    (tmp_path / "images" / "000000.png").write_bytes(b"no image")
    clip = trained.dataset.test[0]
    cameras = [
        {"id": "folder", "url": str(tmp_path / "images")},
        {"id": "gate", "url": str(clip.url), "scene": clip.scene, "loop": True},
    ]
    config = tmp_path / "cameras.yaml"
    config.write_text(json.dumps({**TINY, "cameras": cameras, "output": {"folder": str(tmp_path / "run")}}))
    place = Path(tempfile.mkdtemp(prefix="cflow-", dir="/tmp"))  # sockets need a short path
    command = [sys.executable, ROOT / "run_cluster.py", "stream", "--config", config, "--model", trained.folder]
    environment = {**os.environ, "CFLOW_LOG": "json", "TMPDIR": str(place)}
    with (tmp_path / "err").open("wb") as err, subprocess.Popen(command, env=environment, stderr=err) as process:

        def said():
            lines = [line for path in place.rglob("worker-*.err") for line in path.read_text().splitlines()]
            return [json.loads(line) for line in lines if line.startswith('{"time"')]

        try:
            wait_until(lambda: process.poll() is not None or any("passed over" in line["message"] for line in said()))
            (found,) = (line for line in said() if "passed over" in line["message"])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60.0)
            shutil.rmtree(place, ignore_errors=True)
    assert (found["camera"], found["session"], found["level"]) == ("folder", 0, "warning")
    assert found["logger"] == "pipeline.video.images"
    assert all(json.loads(line)["logger"] for line in (tmp_path / "err").read_text().splitlines())
