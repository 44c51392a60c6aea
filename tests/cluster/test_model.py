"""A run's model on nodes that do not have it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipeline.models.card import WEIGHTS_FILE, read_card
from pipeline.run_folder import RunFolder
from pipeline.sinks.redis_reader import read_statuses
from pipeline.sinks.run_status import read_run
from tests.cluster.nodes import ray_nodes
from tests.faults.live import QUICK
from tests.models_for_tests import TINY

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "run_cluster.py")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The head has no CPU to offer, so that whatever reads cameras or runs the model does so on the other node."""
    home = tmp_path_factory.mktemp("home")
    with ray_nodes(home) as nodes:
        nodes.start_head(cpus=0)
        nodes.add("far", cpus=4, XDG_CACHE_HOME=str(home / "far"))
        yield nodes


def until(condition, what, longest_s=180.0):
    give_up_at = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {longest_s:g} s: {what}"
        time.sleep(0.1)


@contextmanager
def stream(cluster, config, model, log):
    """The command, until the block ends."""
    words = ["stream", "--config", str(config), "--model", str(model), "--address", cluster.address]
    with log.open("w") as said:
        running = subprocess.Popen([*COMMAND, *words], stdout=said, stderr=said, env=cluster.environment)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        assert running.wait(60.0) == 0, log.read_text()


def detectors(cluster):
    found = [process for node in cluster.nodes.values() for process in node.processes()]
    return [process.pid for process in found if " ".join(process.cmdline()).startswith("ray::DetectorActor")]


def newest_score(redis_url):
    """When the newest scored frame of all cameras was captured."""
    if read_run(redis_url) is None:
        return 0.0
    return max((camera["scored_frame_at_s"] or 0.0 for camera in read_statuses(redis_url).values()), default=0.0)


def test_a_model_reaches_nodes_without_its_folder_and_outlives_that_on_them(trained, cluster, redis_url, tmp_path):
    model, run, config = shutil.copytree(trained.folder, tmp_path / "mine"), tmp_path / "run", tmp_path / "c.yaml"
    clip = trained.dataset.test[0]
    sections = {
        "camera_defaults": QUICK,
        "cameras": [{"id": "gate", "url": clip.url, "scene": clip.scene, "loop": True}],
        "runtime": {**TINY["runtime"], "spare_detectors": 0},
        "redis": {"url": redis_url},
        "output": {"folder": str(run)},
    }
    config.write_text(yaml.safe_dump({**TINY, **sections}))
    with stream(cluster, config, model, tmp_path / "log.txt"):
        until(lambda: newest_score(redis_url) > 0.0, "frames are scored")
        fingerprint = read_card(model).fingerprint
        kept = RunFolder(run).models / fingerprint / WEIGHTS_FILE
        copy = cluster.home / "far" / "cflow-stream" / "models" / fingerprint / WEIGHTS_FILE
        assert kept.read_bytes() == copy.read_bytes() == (model / WEIGHTS_FILE).read_bytes()
        shutil.rmtree(model)
        shutil.rmtree(kept.parent)
        (detector,) = detectors(cluster)
        os.kill(detector, signal.SIGKILL)
        killed_at_s = time.time()
        until(lambda: newest_score(redis_url) > killed_at_s, "the detector is back, with what its node has kept")
    assert not RunFolder(run).models.exists()
