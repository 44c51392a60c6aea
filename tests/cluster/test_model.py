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

from pipeline.camera_settings import AlertSettings
from pipeline.models.card import WEIGHTS_FILE, read_card, write_card
from pipeline.models.normal_stretches import stretches_of_scene
from pipeline.run_folder import RunFolder
from pipeline.scoring.calibration import Calibration
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
    """The head has no CPU to offer, so that whatever runs the model does so on the other node."""
    home = tmp_path_factory.mktemp("home")
    with ray_nodes(home) as nodes:
        nodes.start_head(cpus=0)
        nodes.add("far", cpus=4, XDG_CACHE_HOME=str(home / "far"))
        yield nodes


@pytest.fixture
def run(cluster, trained, redis_url, tmp_path):
    return Run(cluster, trained, redis_url, tmp_path)


class Run:
    """What its user types and sees."""

    def __init__(self, cluster, trained, redis_url, folder):
        self.cluster, self.redis_url, self.folder = cluster, redis_url, folder / "run"
        self.config, self.log, self.clip = folder / "c.yaml", folder / "log.txt", trained.dataset.test[0]

    def write(self, *cameras):
        """Cameras that lose no frame while nobody has time for them."""
        sections = {
            "camera_defaults": {**QUICK, "max_frame_age_s": 60, "buffer_frames": 500},
            "cameras": [{"id": name, "url": self.clip.url, "scene": self.clip.scene, "loop": True} for name in cameras],
            "runtime": {**TINY["runtime"], "batch_frames": 64, "cameras_per_process": 1, "spare_detectors": 0},
            "redis": {"url": self.redis_url},
            "output": {"folder": str(self.folder), "rotate_s": 5},
        }
        self.config.write_text(yaml.safe_dump({**TINY, **sections}))

    def begin(self, *words):
        with self.log.open("a") as said:
            return subprocess.Popen([*COMMAND, *words], stdout=said, stderr=said, env=self.cluster.environment)

    def type(self, *words):
        done = [*COMMAND, *map(str, words)]
        return subprocess.run(
            done, capture_output=True, text=True, check=False, timeout=240.0, env=self.cluster.environment
        )

    @contextmanager
    def streaming(self, model):
        """The command, until the block ends."""
        words = ["--config", str(self.config), "--model", str(model), "--address", self.cluster.address]
        running = self.begin("stream", *words)
        try:
            yield
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)
            assert running.wait(60.0) == 0, self.log.read_text()

    def until(self, condition, what, longest_s=180.0):
        give_up_at = time.monotonic() + longest_s
        while not condition():
            assert time.monotonic() < give_up_at, f"not within {longest_s:g} s: {what}; {self.log.read_text()}"
            time.sleep(0.1)

    def newest_score(self):
        """When the newest scored frame of all cameras was captured."""
        if read_run(self.redis_url) is None:
            return 0.0
        return max((camera["scored_frame_at_s"] or 0.0 for camera in read_statuses(self.redis_url).values()), default=0)

    def scored_by(self, fingerprint):
        """Whether every camera is."""
        return {camera["model"] for camera in read_statuses(self.redis_url).values()} == {fingerprint}

    def wait_for_frames(self, model):
        self.until(lambda: self.newest_score() > 0.0 and self.scored_by(model), "frames are scored")

    def kill(self, kind):
        """All processes of a kind of actor, on all nodes."""
        found = [process for node in self.cluster.nodes.values() for process in node.processes()]
        pids = [process.pid for process in found if " ".join(process.cmdline()).startswith(f"ray::{kind}")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    def check_rows(self, cards, models):
        """Every frame was scored once and judged by the model that saw it; each camera had these, one after another."""
        for name, status in read_statuses(self.redis_url).items():
            assert status["decoded"] == status["scored"] + sum(status["dropped"].values())
            assert "detector_lost" not in status["dropped"]
            files = (self.folder / "scores" / f"camera={name}").rglob("*.parquet")
            rows = sorted(
                (row for file in files for row in pq.read_table(file).to_pylist()),
                key=lambda row: (row["session"], row["index"]),
            )
            assert len({(row["session"], row["index"]) for row in rows}) == len(rows) == status["scored"]
            assert [model for model, _ in itertools.groupby(row["model"] for row in rows)] == models
            for row in filter(lambda row: row["paired"], rows):
                card = cards[row["model"]]
                normal = Calibration.of(stretches_of_scene(card, self.clip.scene), AlertSettings(quantile=0.99))
                assert row["p_value"] == normal.p_value(row["anomaly_score"], paired=True)


@pytest.fixture
def second(trained, tmp_path):
    """A model with other normal scores, so that every row tells by which of the two it was judged."""
    folder, card = shutil.copytree(trained.folder, tmp_path / "second"), read_card(trained.folder)
    normal = {
        scene: tuple(tuple(2.0 * score + 1.0 for score in scores) for scores in clips)
        for scene, clips in card.normal_scores.items()
    }
    write_card(card.model_copy(update={"normal_scores": normal}), folder)
    return folder


def test_a_model_reaches_nodes_without_its_folder_and_outlives_that_on_them(run, trained, tmp_path):
    model = shutil.copytree(trained.folder, tmp_path / "mine")
    fingerprint = read_card(model).fingerprint
    run.write("gate")
    with run.streaming(model):
        run.wait_for_frames(fingerprint)
        kept = RunFolder(run.folder).models / fingerprint / WEIGHTS_FILE
        copy = run.cluster.home / "far" / "cflow-stream" / "models" / fingerprint / WEIGHTS_FILE
        assert kept.read_bytes() == copy.read_bytes() == (model / WEIGHTS_FILE).read_bytes()
        shutil.rmtree(model)
        shutil.rmtree(kept.parent)
        assert run.kill("DetectorActor") == 1
        killed_at_s = time.time()
        run.until(lambda: run.newest_score() > killed_at_s, "the detector is back, with what its node has kept")
    assert not RunFolder(run.folder).models.exists()


def test_a_model_follows_another_under_load_with_every_frame_scored_once_and_goes_back(run, trained, second, tmp_path):
    cards = {card.fingerprint: card for card in map(read_card, (trained.folder, second))}
    before, after = cards
    run.write("gate", "yard", "roof")
    here = ("--config", run.config)
    with run.streaming(trained.folder):
        run.wait_for_frames(before)
        for words, wanted in ((["set", second], after), (["back"], before)):
            done = run.type("model", *words, *here)
            assert done.returncode == 0, done.stderr
            assert f"model {wanted[:12]} (" in done.stdout
            run.until(lambda wanted=wanted: run.scored_by(wanted), "every camera is scored by it")
        same, absent = (run.type("model", "set", place, *here) for place in (trained.folder, tmp_path / "none"))
        assert (same.returncode, absent.returncode) == (2, 2)
        assert f"expected another model than {before[:12]}, got that one" in same.stderr
        assert "expected a model folder written by 'train', got no such folder" in absent.stderr
        assert "Traceback" not in same.stderr + absent.stderr
        assert read_run(run.redis_url)["model"]["fingerprint"] == before
    run.check_rows(cards, [before, after, before])


def test_a_service_whose_supervisor_dies_while_its_model_changes_goes_on_with_the_change(run, trained, second):
    cards = {card.fingerprint: card for card in map(read_card, (trained.folder, second))}
    before, after = cards
    run.write("gate")
    there = ("--address", run.cluster.address)
    done = run.type("stream", "--config", run.config, "--model", trained.folder, "--detach", *there)
    assert done.returncode == 0, done.stderr
    try:
        run.wait_for_frames(before)
        asking = run.begin("model", "set", str(second), *there)
        run.until(lambda: read_run(run.redis_url)["model"]["coming"] == after, "the other model is loaded")
        assert run.kill("ServiceActor") == 1
        run.until(
            lambda: (read_run(run.redis_url)["model"]["phase"], run.scored_by(after)) == ("in use", True),
            "it scores every camera",
        )
        asking.terminate()
        asking.wait(30.0)
    finally:
        stopped = run.type("stop", *there)
    assert stopped.returncode == 0, stopped.stderr
    run.check_rows(cards, [before, after])
