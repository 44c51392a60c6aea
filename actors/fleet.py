"""The actors of a run: how many there are, what each may take of the cluster, and where it goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.actor_monitor import ActorMonitor, wait_for_start
from actors.camera import CameraActor
from actors.cluster import actor_class
from actors.detector import DetectorActor, DetectorPlan
from actors.local_ray import dead_ray_processes
from actors.scorer import ScorerActor
from pipeline.errors import BadInputError
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.plan import RunPlan

_CAMERA_CPUS = 0.1  # Ray's resources only place actors; decoders share the cores with everyone
_SCORER_CPUS = 0  # they have to be on this node, also where a cluster's head offers none
_FOREVER = {"max_restarts": -1, "max_task_retries": 0}
_DETACHED = {"lifetime": "detached", "get_if_exists": True}


class Fleet:
    """Makes the actors of one run on the Ray cluster that this process has joined.

    Args:
        plan: the run.
        detached: whether its actors outlive this process, and those that are there already are taken over.

    Raises:
        BadInputError: ``cuda`` was asked for and the cluster has no GPU.

    Attributes:
        device: torch device of the detectors.
        active: how many detectors work while all live.
        detectors: names of all detectors, spare ones last.
        scorers: names of all scorers, by number.
    """

    def __init__(self, plan: RunPlan, *, detached: bool = False) -> None:
        self._plan = plan
        self._lifetime = _DETACHED if detached else {}
        self.scorers = plan.scorers
        runtime = plan.runtime
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if runtime.device == "cuda" and gpus == 0:
            raise BadInputError("runtime.device: expected a GPU in the Ray cluster for 'cuda', got none")
        self.device = "cpu" if runtime.device == "cpu" or gpus == 0 else "cuda"
        active = runtime.detectors or (gpus if self.device == "cuda" else 1)
        self.active = min(active, gpus) if self.device == "cuda" else active
        spare = runtime.spare_detectors
        if spare is None:  # several detectors take over from each other
            spare = int(self.active == 1 and any(camera.is_live for camera in plan.cameras))
        self.detectors = tuple(f"{plan.name}-detector-{number}" for number in range(self.active + spare))

    def lack_of_room(self) -> str | None:
        """What the cluster has not free at present and the first actors want, in one line; more nodes may come.

        Each of them waits until there is room for it.
        """
        share = self._detector_share()
        wanted = {
            "CPU": _CAMERA_CPUS + self.active * share.get("num_cpus", 0.0),
            "GPU": self.active * share.get("num_gpus", 0.0),
        }
        total, free = ray.cluster_resources(), ray.available_resources()
        lacking = [
            f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind} free, and this run wants {amount:g}"
            for kind, amount in wanted.items()
            if free.get(kind, 0.0) < amount
        ]
        return f"the Ray cluster has {'; '.join(lacking)}: actors wait until there is room" if lacking else None

    def scorer(self, number: int) -> ActorMonitor:
        """The scorer of this number."""
        return ActorMonitor(lambda: create_scorer(self._plan, number, self._lifetime))

    def camera_process(self, name: str) -> ActorMonitor:
        """A process for some of the cameras, where there is room."""
        return ActorMonitor(lambda: self._create_camera_process(name))

    def detector(self, name: str) -> ActorMonitor:
        """A detector, where there is room."""
        return ActorMonitor(lambda: self._create_detector(name))

    def wait_for_start(self, actors: Mapping[str, ActorMonitor], stop: threading.Event, within_s: float) -> None:
        """As the function ``wait_for_start``, of these actors by name."""
        wait_for_start({actor.handle.pid.remote(): name for name, actor in actors.items()}, stop, within_s)

    def poll(self, actors: Sequence[ActorMonitor], within_s: float) -> None:
        """Poll actors for their reports, and wait a moment for their answers, which ``collect`` takes in.

        Args:
            actors: who is asked.
            within_s: longest wait.
        """
        questions = [actor.poll(time.monotonic()) for actor in actors]
        ray.wait(questions, num_returns=len(questions), timeout=within_s)

    def dead_processes(self) -> list[str]:
        """Which of Ray's own processes are dead, so that no actor can come back."""
        return dead_ray_processes()

    def _create_camera_process(self, name: str) -> ActorHandle:
        plan = self._plan
        options = {"name": name, "num_cpus": _CAMERA_CPUS, "max_concurrency": 6, **_FOREVER, **self._lifetime}
        return actor_class(CameraActor, options).remote(
            plan.size_px, plan.gap_s, plan.runtime.cameras_per_process, Path(plan.counters_folder.name), plan.quarantine
        )

    def _create_detector(self, name: str) -> ActorHandle:
        plan, runtime = self._plan, self._plan.runtime
        detector_plan = DetectorPlan(
            name=name,
            model_folder=plan.model_folder,
            expected_model=plan.expected_model,
            device=self.device,
            threads=runtime.threads or max(1, (os.cpu_count() or 1) // self.active),
            batch=BatchPolicy(runtime.batch_frames, runtime.batch_wait_s),
            scorers=plan.scorers,
            runtime=runtime,
            load_stand_in=plan.load_stand_in,
        )
        options = {"name": name, "max_concurrency": 4, **self._detector_share(), **_FOREVER, **self._lifetime}
        return actor_class(DetectorActor, options).remote(detector_plan)

    def _detector_share(self) -> dict[str, float]:
        """What a detector takes of the cluster's resources, so that all of them find a place."""
        total = len(self.detectors)
        if self.device == "cpu":
            return {"num_cpus": min(1.0, 0.5 * ray.cluster_resources().get("CPU", 1.0) / total)}
        # A spare one shares a GPU, on which it only keeps its weights; without one every detector has one to itself.
        return {"num_gpus": 1.0 if total == self.active else self.active / total}


def create_scorer(plan: RunPlan, number: int = 0, lifetime: Mapping[str, Any] = MappingProxyType({})) -> ActorHandle:
    """A scorer of a run, on this node, where its files belong.

    Args:
        plan: the run.
        number: which of its scorers.
        lifetime: Ray's options for how long it lives, where it does not end with this process.
    """
    options = {"name": plan.scorers[number], "num_cpus": _SCORER_CPUS, **_FOREVER, **_here(), **lifetime}
    return actor_class(ScorerActor, options).remote(plan, number)


def _here() -> dict[str, NodeAffinitySchedulingStrategy]:
    """Placement on the node of the calling process."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
