"""Whoever asks the command for JSON gets it from its actors, too."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.local_ray import _LONGEST_SOCKET_NAME
from pipeline.private_folder import folder_for_sockets
from tests.models_for_tests import TINY
from tests.sinks.made import wait_until
from tests.videos import write_images

ROOT = Path(__file__).parents[2]


def said_of(folder, what):
    """Lines of any actor on this machine that are about something in a folder."""
    found = []
    for path in folder_for_sockets(_LONGEST_SOCKET_NAME).glob("ray-*/session_2*/logs/worker-*.err"):
        with contextlib.suppress(FileNotFoundError):  # of another run, which has ended
            found += [line for line in path.read_text().splitlines() if str(folder) in line and what in line]
    return [json.loads(line) for line in found if line.endswith("}")]


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
    command = [sys.executable, ROOT / "run_cluster.py", "stream", "--config", config, "--model", trained.folder]
    environment = {**os.environ, "CFLOW_LOG": "json"}
    with (tmp_path / "err").open("wb") as err, subprocess.Popen(command, env=environment, stderr=err) as process:
        try:
            wait_until(lambda: process.poll() is not None or said_of(tmp_path, "passed over"))
            (found,) = said_of(tmp_path, "passed over")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60.0)
    assert (found["camera"], found["session"], found["level"]) == ("folder", 0, "warning")
    assert found["logger"] == "pipeline.video.images"
    assert all(json.loads(line)["logger"] for line in (tmp_path / "err").read_text().splitlines())
