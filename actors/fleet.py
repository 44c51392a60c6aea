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
from actors.cluster_nodes import living_nodes
from actors.detector import DetectorActor, DetectorPlan
from actors.local_ray import dead_ray_processes
from actors.scorer import ScorerActor
from actors.served_models import ServedModels
from pipeline.errors import BadInputError
from pipeline.runtime.nodes import ROLE_LABEL, ClusterNode, nodes_for
from pipeline.runtime.plan import RunPlan

_CAMERA_CPUS = 0  # each is placed by hand, and finds its place beside whatever detectors took
_SCORER_CPUS = 0  # they have to be on this node, also where a cluster's head offers none
_RAYS_UNIT = 1e-4  # it counts shares in these
_ROUNDING = 1e-6  # a third of a GPU, three times
_NOT_FOR_OTHERS = "!in(decode,state)"  # nor for nobody: a node without the label. Ray takes blanks for parts of values
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
        active: how many detectors work while all live, at first and at least.
        max_active: how many may work.
        detectors: names of all detectors at first, spare ones last.
        scorers: names of all scorers, by number.
        models: where each detector gets its model.
    """

    def __init__(self, plan: RunPlan, *, detached: bool = False) -> None:
        self._plan = plan
        self._lifetime = _DETACHED if detached else {}
        self.scorers = plan.scorers
        runtime = plan.runtime
        gpus = ray.cluster_resources().get("GPU", 0.0)
        if runtime.device == "cuda" and gpus == 0:
            raise BadInputError("runtime.device: expected a GPU in the Ray cluster for 'cuda', got none")
        self.device = "cpu" if runtime.device == "cpu" or gpus == 0 else "cuda"
        room = self._room_on(gpus)
        if self.device == "cuda" and room == 0:
            raise BadInputError(
                f"runtime.gpus_per_detector: expected at most the {gpus:g} GPUs of the Ray cluster, "
                f"got {runtime.gpus_per_detector:g}"
            )
        active = runtime.detectors or (room if self.device == "cuda" else 1)
        self.active = min(active, room) if self.device == "cuda" else active
        self.max_active = max(runtime.max_detectors or self.active, self.active)
        self._nodes: tuple[ClusterNode, ...] = ()
        self._places: dict[str, str] = {}
        spare = runtime.spare_detectors
        if spare is None:  # several detectors take over from each other
            spare = int(self.active == 1 and any(camera.is_live for camera in plan.cameras))
        self.models = ServedModels(plan, lambda: {"num_cpus": _SCORER_CPUS, **_FOREVER, **_here(), **self._lifetime})
        self.detectors = tuple(f"{plan.name}-detector-{number}" for number in range(self.active + spare))

    def look_at_nodes(self) -> tuple[ClusterNode, ...]:
        """The living nodes of the cluster, which new actors are placed by; waits for the head's answer.

        Raises:
            Exception: the head is away.
        """
        self._nodes = living_nodes()
        return self._nodes

    def spread_over(self) -> list[str]:
        """Ids of the nodes that detectors are to be spread over: on a CPU; GPUs spread them by themselves."""
        return [node.id for node in self._detector_hosts()] if self.device == "cpu" else []

    def place_detector(self, name: str, node: str) -> None:
        """Have a detector made on a node, where there is room and as long as it is there.

        Args:
            name: of the detector, which is made later.
            node: id of the node.
        """
        self._places[name] = node

    def room_for_detectors(self) -> int:
        """How many detectors the cluster could hold, those that there are included."""
        if self.device == "cpu":
            return self.max_active
        return sum(self._room_on(node.gpus) for node in self._detector_hosts())

    def lack_of_room(self) -> str | None:
        """What the cluster has not free at present and the first actors want, in one line; more nodes may come.

        Each of them waits until there is room for it.
        """
        share = self._detector_share()
        wanted = {
            "CPU": self.active * share.get("num_cpus", 0.0),
            "GPU": self.active * share.get("num_gpus", 0.0),
        }
        total, free = ray.cluster_resources(), ray.available_resources()
        lacking = [
            f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind} free, and this run wants {amount:g}"
            for kind, amount in wanted.items()
            if free.get(kind, 0.0) < amount
        ]
        return f"the Ray cluster has {'; '.join(lacking)}: actors wait until there is room" if lacking else None

    def check_room_beside(self, count: int, leaving: int) -> None:
        """See whether detectors of another model find room beside those that there are.

        Args:
            count: of the former.
            leaving: of the latter, those that make room first.

        Raises:
            BadInputError: they do not.
        """
        kind, share = ("CPU", "num_cpus") if self.device == "cpu" else ("GPU", "num_gpus")
        each = self._detector_share()[share]
        free = ray.available_resources().get(kind, 0.0) + leaving * each
        if free + _ROUNDING < count * each:
            hint = "; with runtime.gpus_per_detector of at most 0.5 two models fit on a GPU" if kind == "GPU" else ""
            raise BadInputError(
                f"expected room for {count} more detectors beside those at work, {count * each:g} {kind}, got {free:g} "
                f"{kind} free{hint}"
            )

    def scorer(self, number: int) -> ActorMonitor:
        """The scorer of this number."""
        return ActorMonitor(lambda: create_scorer(self._plan, number, self._lifetime))

    def camera_process(self, name: str, node: str) -> ActorMonitor:
        """A process for some of the cameras, which lives and dies with its node; an empty one is any."""
        return ActorMonitor(lambda: self._create_camera_process(name, node))

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

    def close(self) -> None:
        """End what belongs to no actor that has a monitor, and delete what it kept."""
        self.models.close()

    def dead_processes(self) -> list[str]:
        """Which of Ray's own processes are dead, so that no actor can come back."""
        return dead_ray_processes()

    def _create_camera_process(self, name: str, node: str) -> ActorHandle:
        plan = self._plan
        options = {"name": name, "num_cpus": _CAMERA_CPUS, "max_concurrency": 6, **_FOREVER, **self._lifetime}
        if node:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        return actor_class(CameraActor, options).remote(
            plan.size_px,
            plan.gap_s,
            plan.runtime.cameras_per_process,
            Path(plan.counters_folder.name),
            plan.quarantine,
            plan.evidence,
        )

    def _create_detector(self, name: str) -> ActorHandle:
        plan, runtime = self._plan, self._plan.runtime
        detector_plan = DetectorPlan(
            name=name,
            model=self.models.source_of(name),
            device=self.device,
            threads=runtime.threads or max(1, (os.cpu_count() or 1) // self._on_one_node()),
            batch_frames=runtime.batch_frames,
            scorers=plan.scorers,
            runtime=runtime,
            load_stand_in=plan.load_stand_in,
        )
        options = {"name": name, "max_concurrency": 4, **self._detector_share(), **_FOREVER, **self._lifetime}
        hosts = self._detector_hosts()
        if {node.role for node in hosts} == {"detect"}:
            options["label_selector"] = {ROLE_LABEL: "detect"}
        elif {node.role for node in hosts} == {""} and any(node.role for node in self._nodes):
            options["label_selector"] = {ROLE_LABEL: _NOT_FOR_OTHERS}
        if len(hosts) > 1:  # beside the cameras, on whatever node these are
            options["scheduling_strategy"] = "SPREAD"
        if (node := self._places.get(name)) is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        return actor_class(DetectorActor, options).remote(detector_plan)

    def _detector_share(self) -> dict[str, float]:
        """What a detector takes of the cluster's resources, so that all of them find a place."""
        total, spare = len(self.detectors), len(self.detectors) - self.active
        if self.device == "cpu":
            most = self.max_active + spare
            share = min(1.0, 0.5 * ray.cluster_resources().get("CPU", 1.0) / most)
            # Rounded down: while the model changes there are twice as many, and they fit.
            return {"num_cpus": int(share / _RAYS_UNIT + _ROUNDING) * _RAYS_UNIT}
        # A spare one shares GPUs with the others, for it only keeps its weights there.
        return {"num_gpus": self._plan.runtime.gpus_per_detector * self.active / total}

    def _on_one_node(self) -> int:
        """How many detectors work on one node."""
        return -(-self.active // max(1, len(self._detector_hosts())))

    def _detector_hosts(self) -> tuple[ClusterNode, ...]:
        """The nodes for detectors; with a GPU, where they need one."""
        able = [node for node in self._nodes if node.gpus > 0] if self.device == "cuda" else self._nodes
        return nodes_for("detect", able)

    def _room_on(self, gpus: float) -> int:
        """How many detectors so many GPUs hold, each of which several may share."""
        share = self._plan.runtime.gpus_per_detector
        return int(gpus) * int(1.0 / share + _ROUNDING) if share <= 1.0 else int(gpus / share)


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
