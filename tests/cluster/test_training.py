"""`train` by workers on two nodes: the model of one worker, whatever happens to them meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.datasets.synthetic import SyntheticSpec, render
from pipeline.models.card import ModelCard, read_card
from pipeline.training.train import train
from tests.cluster.nodes import ray_nodes
from tests.models_for_tests import TINY, tiny_config

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
WITHIN_S = 240.0
TRAINING = {
    "epochs": 1,
    "least_steps": 1500,
    "batch_frames": 8,
    "positions_per_frame": 24,
    "learning_rate": 1e-3,
    "checkpoint_every_s": 0.2,
}


class Trainings:
    """Commands that train on the same footage."""

    def __init__(self, folder, nodes):
        self.nodes = nodes
        self._folder = folder
        self.config = tiny_config(training=TRAINING)
        self._config_file = folder / "tiny.yaml"
        self._config_file.write_text(json.dumps({**TINY, "training": TRAINING}))
        spec = SyntheticSpec(cameras=2, size_px=(64, 96), train_clips=2, train_frames=20, test_clips=1, test_frames=8)
        self.dataset = render(folder / "footage", spec)

    def start(self, out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "run_cluster.py", "train", "--config", self._config_file, "--out", out]
        command += ["--data", self._folder / "footage", "--address", self.nodes.address, "--workers", "2"]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.nodes.environment, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def workers(self) -> list[psutil.Process]:
        """Those that live, on all nodes."""
        every = [process for node in self.nodes.nodes.values() for process in node.processes()]
        return [process for process in every if "RayTrainWorker" in _title(process)]


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def ended(command) -> str:
    """What a command said until it ended in good order."""
    said = command.communicate(timeout=WITHIN_S)[1]
    assert command.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    with ray_nodes(folder) as nodes:
        nodes.start_head(cpus=1)
        nodes.add("a", cpus=1)
        yield Trainings(folder, nodes)


def wait_for_state(out: Path, command, *, after_ns: int = 0) -> int:
    """Wait until a training's state was kept after a time, which says that it takes steps; when it was kept."""
    state, give_up_at = Path(f"{out}.training", "state.safetensors"), time.monotonic() + WITHIN_S
    while not (state.exists() and state.stat().st_mtime_ns > after_ns):
        assert time.monotonic() < give_up_at and command.poll() is None, command.communicate()[1]
        time.sleep(0.02)
    return state.stat().st_mtime_ns


def heard_until(command, word: str) -> str:
    """What a command says until a line has a word."""
    said = ""
    while word not in said:
        line = command.stderr.readline()
        assert line, said
        said += line
    return said


def check_same(card: ModelCard, alone: ModelCard) -> None:
    made, expected = card.provenance, alone.provenance
    assert made.completed
    assert (made.steps, made.train_frames, made.holdout_frames) == (
        expected.steps, expected.train_frames, expected.holdout_frames
    )  # fmt: skip
    assert made.losses == pytest.approx(expected.losses, rel=0.01)
    assert card.scenes == alone.scenes
    assert card.views == alone.views
    for scene, of_clips in alone.normal_scores.items():
        for found, scores in zip(card.normal_scores[scene], of_clips, strict=True):
            assert found == pytest.approx(scores, rel=0.02, abs=0.02)


def test_whatever_happens_to_workers_and_command_the_model_is_that_of_one_worker(trainings, tmp_path):
    alone = train(trainings.config, trainings.dataset, tmp_path / "alone")
    out = tmp_path / "model"

    command = trainings.start(out)
    kept_ns = wait_for_state(out, command)
    first, second = trainings.workers()
    assert first.parent() != second.parent()  # one on each node
    second.kill()
    wait_for_state(out, command, after_ns=max(kept_ns, time.time_ns()))
    waiting = trainings.workers()[0]
    waiting.suspend()  # no step is taken while the command asks for the end
    os.kill(command.pid, signal.SIGINT)
    said = heard_until(command, "stopping")
    waiting.resume()
    said += command.communicate(timeout=WITHIN_S)[1]
    assert command.returncode == 128 + signal.SIGINT, said
    assert "workers were lost or came: training goes on with" in said
    assert "interrupted after" in said
    interrupted = read_card(out).provenance
    assert not interrupted.completed
    assert interrupted.steps > 0

    command = trainings.start(out)
    wait_for_state(out, command, after_ns=time.time_ns())
    trainings.nodes.kill("a")
    assert "training goes on with 1 from what was saved last" in ended(command)
    check_same(read_card(out), alone)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "model"]
