"""Joining or starting Ray, and every ``ray.remote`` of the project."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.local_ray import local_ray
from pipeline.errors import BadInputError
from pipeline.held_folder import held_folder
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.plan import RunPlan
from pipeline.signals import kept_handlers
from pipeline.video.source import is_live

NAMESPACE = "cflow-stream"
_ROOT = Path(__file__).resolve().parent.parent  # a checkout, or where packages are installed
_SENT = ("actors", "pipeline")
_CAMERA_CPUS = 0.1  # Ray's resources only place actors; decoders share the cores with everyone
_SCORER_CPUS = 0.1
_FOREVER = {"max_restarts": -1, "max_task_retries": 0}


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Join a running Ray cluster, or start one on this machine that ends with the block.

    A process that is connected already stays so, before and after.

    Args:
        address: of the running cluster (``auto``, ``host:port`` or ``ray://...``); None starts a local one.

    Raises:
        BadInputError: nobody answers at the address.
        RunError: a local Ray did not start, or would be open to others.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    with ExitStack() as stack:
        with kept_handlers(signal.SIGTERM):  # Ray's start takes it for itself, and would end the process undrained
            stack.enter_context(local_ray(**common) if address is None else _joined(address, **common))
        yield


@contextmanager
def _joined(address: str, **options: Any) -> Iterator[None]:
    with held_folder(f"code-{secrets.token_hex(4)}") as folder:  # Ray sends it while it joins
        for package in _SENT:
            shutil.copytree(_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            ray.init(address=address, runtime_env={"working_dir": str(folder)}, **options)
        except Exception as error:
            got = " ".join(str(error).split())[:300]
            hint = " (is it the cluster's token? RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)" if _is_about_token(error) else ""
            raise BadInputError(f"--address {address}: expected a running Ray cluster, got {got}{hint}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _is_about_token(error: BaseException | None) -> bool:
    """Whether a cluster was there and did not know us, which Ray says in the cause of its own error."""
    while error is not None:
        if "authentic" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True, slots=True)
class Fleet:
    """The detectors of a run.

    Attributes:
        device: torch device.
        active: how many work while all live.
        total: how many there are, spare ones included.
    """

    device: str
    active: int
    total: int


def plan_detectors(plan: RunPlan) -> Fleet:
    """Decide on the detectors of a run.

    Raises:
        BadInputError: ``cuda`` was asked for and the cluster has no GPU.
    """
    runtime = plan.runtime
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if runtime.device == "cuda" and gpus == 0:
        raise BadInputError("runtime.device: expected a GPU in the Ray cluster for 'cuda', got none")
    device = "cpu" if runtime.device == "cpu" or gpus == 0 else "cuda"
    active = runtime.detectors or (gpus if device == "cuda" else 1)
    if device == "cuda":
        active = min(active, gpus)
    spare = runtime.spare_detectors
    if spare is None:  # several detectors take over from each other
        live = any(is_live(camera.url.get_secret_value()) for camera in plan.cameras)
        spare = int(live and active == 1)
    return Fleet(device, active, active + spare)


def create_scorer(plan: RunPlan) -> ActorHandle:
    """The scorer of a run, on this node, where its files belong."""
    from actors.scorer import ScorerActor

    options = {"name": _scorer_name(plan), "num_cpus": _SCORER_CPUS, **_FOREVER, **_here()}
    return _actor_class(ScorerActor, options).remote(plan)


def create_camera_process(plan: RunPlan, name: str) -> ActorHandle:
    """A process for some of a run's cameras, where there is room."""
    from actors.camera import CameraActor

    options = {"name": name, "num_cpus": _CAMERA_CPUS, "max_concurrency": 6, **_FOREVER}
    return _actor_class(CameraActor, options).remote(
        plan.size_px, plan.runtime.cameras_per_process, plan.ledgers, plan.quarantine
    )


def create_detector(plan: RunPlan, fleet: Fleet, name: str) -> ActorHandle:
    """A detector of a run, where there is room."""
    from actors.detector import DetectorActor, DetectorPlan

    detector_plan = DetectorPlan(
        name=name,
        model_folder=plan.model_folder,
        expected_model=plan.expected_model,
        device=fleet.device,
        threads=plan.runtime.threads or max(1, (os.cpu_count() or 1) // fleet.active),
        batch=BatchPolicy(plan.runtime.batch_frames, plan.runtime.batch_wait_s),
        scorer=_scorer_name(plan),
        runtime=plan.runtime,
        load_stand_in=plan.load_stand_in,
    )
    options = {"name": name, "max_concurrency": 4, **_detector_share(fleet), **_FOREVER}
    return _actor_class(DetectorActor, options).remote(detector_plan)


def _scorer_name(plan: RunPlan) -> str:
    return f"{plan.name}-scorer"


def _detector_share(fleet: Fleet) -> dict[str, float]:
    """What a detector takes of the cluster's resources, so that all of them find a place."""
    if fleet.device == "cpu":
        return {"num_cpus": min(1.0, 0.5 * ray.cluster_resources().get("CPU", 1.0) / fleet.total)}
    # A spare one shares a GPU, on which it only keeps its weights; without one every detector has a GPU to itself.
    return {"num_gpus": 1.0 if fleet.total == fleet.active else fleet.active / fleet.total}


def _actor_class(plain: type, options: dict[str, Any]) -> Any:
    """A plain class as a Ray actor class; ``Any`` because Ray types only what its decorator syntax gives."""
    return ray.remote(**options)(plain)


def _here() -> dict[str, NodeAffinitySchedulingStrategy]:
    """Placement on the node of the calling process."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
