"""A run's model: on nodes that do not have it, and changed while the run goes on."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.models.card import WEIGHTS_FILE, read_card, write_card
from pipeline.run_folder import RunFolder
from pipeline.scoring.calibration import ScoreCalibration
from pipeline.sinks.parquet_reader import read_clip_scores
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


def other(cluster, config, *words):
    """Another terminal."""
    command = [*COMMAND, *words, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240.0, env=cluster.environment)


def test_a_model_follows_another_under_load_with_every_frame_scored_once_and_goes_back(
    trained, cluster, redis_url, tmp_path
):
    """The second has other normal scores, so that it tells by every row which of them judged it."""
    first, run, config = trained.folder, tmp_path / "run", tmp_path / "c.yaml"
    second = shutil.copytree(first, tmp_path / "second")
    card = read_card(first)
    normal = {
        scene: tuple(tuple(2.0 * score + 1.0 for score in scores) for scores in clips)
        for scene, clips in card.normal_scores.items()
    }
    write_card(card.model_copy(update={"normal_scores": normal}), second)
    cards = {card.fingerprint: card for card in map(read_card, (first, second))}
    before, after = cards
    clip = trained.dataset.test[0]
    sections = {
        "camera_defaults": {**QUICK, "max_frame_age_s": 60, "buffer_frames": 500},
        "cameras": [
            {"id": name, "url": clip.url, "scene": clip.scene, "loop": True} for name in ("gate", "yard", "roof")
        ],
        "runtime": {**TINY["runtime"], "batch_frames": 64, "cameras_per_process": 1, "spare_detectors": 0},
        "redis": {"url": redis_url},
        "output": {"folder": str(run), "rotate_s": 5},
    }
    config.write_text(yaml.safe_dump({**TINY, **sections}))

    def scored_by(fingerprint):
        return {camera["model"] for camera in read_statuses(redis_url).values()} == {fingerprint}

    with stream(cluster, config, first, tmp_path / "log.txt"):
        until(lambda: newest_score(redis_url) > 0.0 and scored_by(before), "frames are scored")
        for words, wanted in ((["set", str(second)], after), (["back"], before)):
            done = other(cluster, config, "model", *words)
            assert done.returncode == 0, done.stderr
            assert f"model {wanted[:12]} (" in done.stdout
            until(lambda wanted=wanted: scored_by(wanted), "every camera is scored by it")
        (refused, absent) = (other(cluster, config, "model", "set", str(place)) for place in (first, tmp_path / "none"))
        assert refused.returncode == absent.returncode == 2
        assert f"expected another model than {before[:12]}, got that one" in refused.stderr
        assert "expected a model folder written by 'train', got no such folder" in absent.stderr
        assert "Traceback" not in refused.stderr + absent.stderr
        assert read_run(redis_url)["model"]["fingerprint"] == before

    scores, statuses = read_clip_scores(run / "scores"), read_statuses(redis_url)
    for name, rows in scores.items():
        status = statuses[name]
        assert status["decoded"] == status["scored"] + sum(status["dropped"].values())
        assert "detector_lost" not in status["dropped"]
        assert (
            len(set(zip(rows.session.tolist(), rows.index.tolist(), strict=True)))
            == status["scored"]
            == rows.index.size
        )
        judged = [(row["model"], row["anomaly_score"], row["p_value"], row["paired"]) for row in rows_of(run, name)]
        order = [model for model, _ in itertools.groupby(model for model, *_ in judged)]
        assert order == [before, after, before]
        for model, score, p_value, paired in judged:
            if paired:
                normal = ScoreCalibration.of_scene(
                    cards[model].normal_scores, clip.scene, cards[model].normal_fps, camera_id=name
                )
                assert p_value == normal.subsampled(QUICK["sample_fps"]).p_value(score)


def rows_of(run, camera):
    """A camera's rows in the order of its frames."""
    rows = [
        row
        for path in (run / "scores" / f"camera={camera}").rglob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["session"], row["index"]))
