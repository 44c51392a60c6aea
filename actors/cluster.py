"""Joining or starting Ray, and every ``ray.remote`` of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import BadInputError, RunError
from pipeline.runtime.assignment import share_processes, split_cameras
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.plan import RunPlan
from pipeline.video.source import is_live

NAMESPACE = "cflow-stream"
_ROOT = Path(__file__).resolve().parent.parent
_OBJECT_STORE_BYTES = 400 * 2**20  # one request in flight per camera process: far above what can be in use
_CAMERA_CPUS = 0.1  # Ray's resources only place actors; decoders share the cores with everyone
_SCORER_CPUS = 0.1
_FOREVER = {"max_restarts": -1, "max_task_retries": 0}


@dataclass(frozen=True)
class RunActors:
    """Handles of a run's actors."""

    cameras: list[ActorHandle]
    detectors: list[ActorHandle]
    scorer: ActorHandle


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Join a running Ray cluster, or start one on this machine that ends with the block.

    A process that is connected already stays so, before and after.

    Args:
        address: of the running cluster (``auto``, ``host:port`` or ``ray://...``); None starts a local one.

    Raises:
        BadInputError: nobody answers at the address.
        RunError: a local Ray did not start.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Ray gives its workers the lowest priority; beside any busy process they would then fall behind the cameras.
        os.environ.setdefault("RAY_worker_niceness", "0")
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # workers import the project from here
        try:
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                **common,
            )
        except Exception as error:  # ray raises many kinds here, a full disk or a taken port among them
            raise RunError(f"Ray did not start on this machine: {' '.join(str(error).split())}") from error
    else:
        code = {"working_dir": str(_ROOT), "excludes": [".venv", ".git", "runs", "models", "tests"]}
        try:
            ray.init(address=address, runtime_env=code, **common)
        except Exception as error:
            raise BadInputError(
                f"--address {address}: expected a running Ray cluster, got {' '.join(str(error).split())[:300]}"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def create_supervisor(plan: RunPlan) -> ActorHandle:
    """The supervisor of a run, on this node."""
    from actors.supervisor import Supervisor

    options = {"name": f"{plan.name}-supervisor", "num_cpus": 0, "max_concurrency": 4, **_here()}
    return _actor_class(Supervisor, options).remote(plan)


def create_actors(plan: RunPlan) -> RunActors:
    """All other actors of a run: the scorer on this node, where its files belong, the rest where there is room."""
    from actors.camera import CameraActor
    from actors.scorer import ScorerActor

    scorer_name = f"{plan.name}-scorer"
    options = {"name": scorer_name, "num_cpus": _SCORER_CPUS, **_FOREVER, **_here()}
    scorer = _actor_class(ScorerActor, options).remote(plan)

    device, detector_count = _devices(plan)
    ids = [camera.id for camera in plan.cameras]
    processes = split_cameras(
        ids,
        per_process=plan.runtime.cameras_per_process,
        detectors=detector_count,
        max_processes=plan.max_processes,
    )
    by_id = {camera.id: camera for camera in plan.cameras}
    names = [f"{plan.name}-camera-{number}" for number in range(len(processes))]
    camera_class = _actor_class(CameraActor, {"num_cpus": _CAMERA_CPUS, "max_concurrency": 4, **_FOREVER})
    cameras = [
        camera_class.options(name=name).remote(
            [by_id[camera_id] for camera_id in members], plan.size_px, plan.runtime.cameras_per_process
        )
        for name, members in zip(names, processes, strict=True)
    ]
    shares = share_processes(len(processes), min(detector_count, len(processes)))
    detectors = [
        _create_detector(plan, number, device, len(shares), share, names, processes, scorer_name)
        for number, share in enumerate(shares)
    ]
    return RunActors(cameras, detectors, scorer)


def _create_detector(
    plan: RunPlan,
    number: int,
    device: str,
    detector_count: int,
    share: list[int],
    names: list[str],
    processes: list[list[str]],
    scorer_name: str,
) -> ActorHandle:
    from actors.detector import DetectorActor, DetectorPlan

    members = [camera_id for process in share for camera_id in processes[process]]
    urls = {camera.id: camera.url.get_secret_value() for camera in plan.cameras}
    detector_plan = DetectorPlan(
        model_folder=plan.model_folder,
        expected_model=plan.expected_model,
        device=device,
        threads=plan.runtime.threads or max(1, (os.cpu_count() or 1) // detector_count),
        batch=BatchPolicy(plan.runtime.batch_frames, plan.runtime.batch_wait_s),
        camera_processes=tuple(names[process] for process in share),
        scenes={camera_id: plan.scenes[camera_id] for camera_id in members},
        live=frozenset(camera_id for camera_id in members if is_live(urls[camera_id])),
        scorer=scorer_name,
    )
    resources = {"num_gpus": 1} if device == "cuda" else {"num_cpus": min(1.0, _detector_cpus(detector_count))}
    name = f"{plan.name}-detector-{number}"
    options = {"name": name, "max_concurrency": 2, **resources, **_FOREVER}
    return _actor_class(DetectorActor, options).remote(detector_plan)


def _detector_cpus(detector_count: int) -> float:
    """CPU share that lets every detector find a place beside cameras and scorer."""
    return 0.5 * ray.cluster_resources().get("CPU", 1.0) / detector_count


def _devices(plan: RunPlan) -> tuple[str, int]:
    """Torch device and number of detectors.

    Raises:
        BadInputError: ``cuda`` was asked for and the cluster has no GPU.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if plan.runtime.device == "cuda" and gpus == 0:
        raise BadInputError("runtime.device: expected a GPU in the Ray cluster for 'cuda', got none")
    device = "cpu" if plan.runtime.device == "cpu" or gpus == 0 else "cuda"
    wanted = plan.runtime.detectors or (gpus if device == "cuda" else 1)
    return device, min(wanted, gpus) if device == "cuda" else wanted


def _actor_class(plain: type, options: dict[str, Any]) -> Any:
    """A plain class as a Ray actor class; ``Any`` because Ray types only what its decorator syntax gives."""
    return ray.remote(**options)(plain)


def _here() -> dict[str, NodeAffinitySchedulingStrategy]:
    """Placement on the node of the calling process."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
