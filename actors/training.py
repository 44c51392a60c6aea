"""`train` on the nodes of a Ray cluster: starts the workers, shows how they stand, and writes the model."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pipeline.errors
from actors.cluster import actor_class, on_every_node, ray_cluster
from actors.ray_settings import environment
from actors.training_store import Outcome, TrainingReport, TrainingStore
from actors.training_worker import Job, work
from pipeline.config import Config
from pipeline.datasets.base import Dataset
from pipeline.errors import ConfigError, RunError
from pipeline.methods import METHODS, method_of
from pipeline.models.card import ModelCard
from pipeline.redaction import redact
from pipeline.signals import Signals, caught_signals
from pipeline.training.progress import TrainingProgress
from pipeline.training.state import training_folder
from pipeline.training.train import TrainingTask, check_out, finish, training_task

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_ANSWER_WITHIN_S = 60.0
_END_WITHIN_S = 20.0
_LONGEST_WAIT_S = 7 * 24 * 3600  # of workers for each other: one may have hours more of footage; deaths Ray notices
_TRAIN_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # How long Ray Train waits for room that it took to be there. After a node was lost it still does for some seconds.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
}


def train_together(
    config: Config,
    dataset: Dataset,
    out: Path,
    progress: TrainingProgress,
    *,
    address: str,
    workers: int,
    cpus: int,
) -> ModelCard:
    """Train a model with several workers on a cluster: as ``train`` does, with the same steps.

    Args:
        config: as for ``train``; where ``runtime.device`` is ``cuda``, or ``auto`` and the cluster has GPUs, every
            worker gets one.
        dataset: its training clips lie under the same paths on the workers' nodes, or on some of them.
        out: folder of the checkpoint, on this machine.
        progress: called as it goes on.
        address: of the cluster's head.
        workers: how many at most; fewer where there is room for fewer, as long as there is.
        cpus: of each.

    Raises:
        BadInputError: as ``train``, or no cluster is there, or the method cannot be fitted by several workers.
        RunError: the training diverged, or its workers die again and again.
        KeyboardInterrupt: interrupted before a single step; the features so far are kept.
    """
    if not method_of(config.model.method).is_shared:
        shared = ", ".join(method.name for method in METHODS.values() if method.is_shared)
        raise ConfigError(f"--workers: expected a method that several can fit ({shared}), got {config.model.method}")
    _require_ray_train()
    check_out(out)
    task, folder = training_task(config, dataset), training_folder(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with ray_cluster(address), caught_signals() as signals:
        resources = {"CPU": float(cpus), "GPU": float(_wants_gpus(config.runtime.device))}
        _warn_of_lack_of_room(workers, resources)
        store = _started_store(folder)
        with _fitting(_job(task, resources, folder, store), workers, resources, folder) as fitting:
            outcome = _followed(store, fitting, progress, signals)
        card = _finished(task, outcome, out)
        if card.provenance.completed:
            on_every_node(_delete, folder)  # features of its clips, on each of them
        return card


def _require_ray_train() -> None:
    try:
        import pandas  # noqa: F401  # what Ray Train imports and Ray does not bring
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--workers: expected Ray Train, as pip install 'cflow-stream[ray-train]' brings it, got: {error}"
        ) from None


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _wants_gpus(device: str) -> bool:
    """Whether every worker gets a GPU.

    Raises:
        ConfigError: the cluster has none, and the config wants one.
    """
    there = ray.cluster_resources().get("GPU", 0.0) >= 1.0
    if device == "cuda" and not there:
        raise ConfigError("runtime.device: expected a Ray cluster with a GPU, got one without")
    return there and device != "cpu"


def _warn_of_lack_of_room(workers: int, resources: dict[str, float]) -> None:
    wanted = {name: count for name, count in resources.items() if count}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(int(min(node.get(name, 0.0) // count for name, count in wanted.items())) for node in nodes)
    if room < workers:
        each = " and ".join(f"{count:g} {name}" for name, count in wanted.items())
        then = "training begins with those, others join" if room else "training begins when a node with room joins"
        _log.warning("expected room for %d workers of %s each, got room for %d: %s", workers, each, room, then)


def _started_store(folder: Path) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return actor_class(TrainingStore, options).remote(folder)


def _job(task: TrainingTask, resources: dict[str, float], folder: Path, store: Any) -> Job:
    return Job(
        task.config,
        replace(task.dataset, test=()),
        task.model,
        task.encoder.backbone.state_dict(),
        task.features_key,
        "cuda" if resources["GPU"] else "cpu",
        int(resources["CPU"]),
        folder,
        store,
    )


class _Fitting(threading.Thread):
    """Ray Train at work, in a thread: in the main one it would take SIGINT for itself."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = trainer
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self.error = error


@contextmanager
def _fitting(job: Job, workers: int, resources: dict[str, float], folder: Path) -> Iterator[_Fitting]:
    """Ray Train's workers; those that are left when the block ends end with the job."""
    with environment(_TRAIN_SETTINGS):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        trainer = TorchTrainer(
            work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if resources["GPU"] else "gloo", timeout_s=_LONGEST_WAIT_S
            ),
            scaling_config=ScalingConfig(
                num_workers=(1, workers),
                use_gpu=bool(resources["GPU"]),
                resources_per_worker=resources,
                placement_strategy="SPREAD",
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=-1),  # the store counts those that lead nowhere
            ),
        )
        fitting = _Fitting(trainer)
        fitting.start()
        try:
            yield fitting
            fitting.join(_END_WITHIN_S)
        finally:
            if fitting.is_alive():
                _release(trainer)


def _release(trainer: Any) -> None:
    """Give back what Ray Train holds of the cluster's room, which it would keep for three minutes after its end."""
    with suppress(ImportError, AttributeError, RayError):  # another Ray has other names: then it is kept so long
        from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
            TrainAutoscalingCoordinatorClient,
        )

        TrainAutoscalingCoordinatorClient(f"train-{trainer.train_run_context.run_id}").cancel_resource_request()


def _followed(store: Any, fitting: _Fitting, progress: TrainingProgress, signals: Signals) -> Outcome:
    """Show how the training stands until it ends.

    Raises:
        KeyboardInterrupt: it was interrupted before a step, or while the fitted model is measured.
        RunError: Ray gave up.
    """
    shown: TrainingReport | None = None
    asked = False
    while True:
        is_alive = fitting.is_alive()
        report = _asked(store.report)
        if report is not None:
            _show(report, shown, progress)
            shown = report
            if report.is_over and (outcome := _asked(store.outcome)) is not None:
                return outcome
        if not is_alive:
            why = "" if fitting.error is None else f": {' '.join(str(fitting.error).split())[:300]}"
            raise RunError(f"expected Ray to train the model, got its end without one{redact(why)}")
        if signals.is_stopping and not asked:
            if shown is None or shown.progress.step is None or shown.progress.heldout[1]:
                raise KeyboardInterrupt
            asked = _asked(store.stop, answer=True) is not None
            if asked:
                _log.warning("stopping: what was fitted so far is measured and written; Ctrl-C again ends at once")
        fitting.join(_LOOK_EVERY_S)


def _asked(method: Any, *, answer: Any = None) -> Any:
    """What the store answers, or ``answer`` where it answers nothing; None where it is being started again."""
    try:
        found = ray.get(method.remote(), timeout=_ANSWER_WITHIN_S)
    except RayError:
        return None
    return answer if found is None else found


def _show(report: TrainingReport, shown: TrainingReport | None, progress: TrainingProgress) -> None:
    now = report.progress
    before = () if shown is None else shown.progress.passed_over
    for line in now.passed_over:
        if line not in before:
            progress.passed_over(line)
    if shown is not None and report.starts > shown.starts >= 1:
        _log.warning("workers were lost or came: training goes on with %d from what was saved last", report.workers)
    if now.features[1]:
        progress.features(*now.features)
    if now.step is not None:
        progress.step(*now.step)
    if now.heldout[1]:
        progress.heldout(*now.heldout)


def _finished(task: TrainingTask, outcome: Outcome, out: Path) -> ModelCard:
    if outcome.error is not None:
        kind, line = outcome.error
        raise getattr(pipeline.errors, kind)(line)
    if outcome.trained is None:
        raise KeyboardInterrupt
    return finish(task, outcome.trained, out)
