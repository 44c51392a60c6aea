"""What `stream --detach` does: it starts a service on a cluster, and waits until that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from actors.cluster import actor_class, ray_cluster
from actors.plans import stream_plan
from actors.served_models import ServedModels
from actors.service import SETTINGS, ServiceActor, ServicePlan, end_actors, service_name
from actors.service_directory import ServiceDirectory, ServiceRecord
from pipeline.config import Config
from pipeline.errors import BadInputError, RunError
from pipeline.locked_folder import locked_folder
from pipeline.models.card import unknown_scenes
from pipeline.models.fetching import find_model
from pipeline.models.source import ModelSource
from pipeline.redaction import redact
from pipeline.remote_files import is_address
from pipeline.runtime.nodes import ROLE_LABEL
from pipeline.runtime.plan import RunPlan
from pipeline.scoring.calibrations import provisional_lines
from pipeline.scoring.run_footage import normal_footage

_LOOK_EVERY_S = 0.2
_HEAD = "node:__internal_head__"  # a resource that Ray gives a cluster's head
_SOME_OF_IT = 0.001


def start_service(
    config: Config,
    model_place: str,
    *,
    duration_s: float | None,
    address: str,
    out: Console,
    err: Console,
) -> None:
    """Start a service, and wait until it runs; where it does not, nothing of it is left.

    Raises:
        BadInputError: the model, Redis or the cluster is not as the config says, or another run uses the folder.
        RunError: an actor did not start.
    """
    if config.redis.is_embedded:
        raise BadInputError(
            "redis.url: expected a Redis that others reach, got 'embedded', which ends with the command"
        )
    model = find_model(model_place, config)
    card = model.card
    for line in unknown_scenes(config.cameras, card.scenes):
        err.print(f"warning: {line}", markup=False, highlight=False, style="yellow")
    for line in provisional_lines(config.cameras, card, normal_footage(card, model.folder, config.cameras)):
        err.print(line, markup=False, highlight=False)
    plan = stream_plan(config, card, model.source, config.redis.url.get_secret_value())
    origin = f"{plan.name}-origin"
    brought = model.source if is_address(model.source.place) else replace(model.source, server=origin)
    plan = replace(plan, model=brought, model_server=f"{plan.name}-model")
    service = ServicePlan(plan, config, tuple(card.scenes), duration_s)
    with ray_cluster(address):
        head = ray.get_runtime_context().gcs_address
        directory = ServiceDirectory.at(head)
        _clear(directory)
        try:
            with _model_offered(plan, model.source, origin):
                record = _started(service, directory, shared=config.output.shared)
        except BaseException:
            end_actors(plan.name)
            directory.forget(plan.name)
            raise
    out.print(f"{plan.name} runs as a service on {record.node}: {record.folder}", markup=False, highlight=False)
    for what in ("status", "stop"):
        out.print(f"{what}: cflow-stream {what} --address {head}", markup=False, highlight=False)


def state_place(nodes: Sequence[Mapping[str, Any]], *, shared: bool) -> dict[str, Any]:
    """Ray's options that keep a service where its state is, also when that machine joins again as another node.

    Args:
        nodes: as ``ray.nodes`` gives them.
        shared: whether the state is on every node.

    Returns:
        Those that lead to the node with the role ``state``, else to the head; where the state is shared, to any node
        with that role, else to any.

    Raises:
        BadInputError: several have that role, and the state is not shared.
    """
    labelled = [node for node in nodes if node["Alive"] and node.get("Labels", {}).get(ROLE_LABEL) == "state"]
    if len(labelled) > 1 and not shared:
        raise BadInputError(
            f"expected one node with the label {ROLE_LABEL}=state, or output.shared: true, got {len(labelled)} of them"
        )
    if labelled:
        return {"label_selector": {ROLE_LABEL: "state"}}
    return {} if shared else {"resources": {_HEAD: _SOME_OF_IT}}


@contextmanager
def _model_offered(plan: RunPlan, source: ModelSource, name: str) -> Iterator[None]:
    """Have an actor on this node, which may alone have the model, bring it to the service while the block lasts.

    Raises:
        BadInputError: the model cannot be read.
    """
    with locked_folder(name) as folder:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        offered = replace(plan, model=source, model_server=name, model_copies=folder)
        models = ServedModels(offered, lambda: {"num_cpus": 0, "scheduling_strategy": here})
        try:
            yield
        finally:
            models.close()


def _clear(directory: ServiceDirectory) -> None:
    """Take away what services left that are over, or whose supervisor is gone for good, its node with it."""
    names: set[str] = set(ray.util.list_named_actors())
    for record in directory.records():
        if service_name(record.run) not in names:
            end_actors(record.run)
            directory.forget(record.run)


def _started(service: ServicePlan, directory: ServiceDirectory, *, shared: bool) -> ServiceRecord:
    """Start it; its record once it runs.

    Raises:
        BadInputError: it was given what it cannot run with.
        RunError: it did not start.
    """
    options = {
        "name": service_name(service.plan.name),
        "num_cpus": 0,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": SETTINGS},
        **state_place(ray.nodes(), shared=shared),
    }
    actor: ActorHandle = actor_class(ServiceActor, options).remote(service)
    answer = actor.pid.remote()
    while True:
        record = next((found for found in directory.records() if found.run == service.plan.name), None)
        if record is not None and record.state == "failed":
            raise (BadInputError if record.is_bad_input else RunError)(record.reason)
        if record is not None and record.state != "starting":
            return record
        _check_alive(answer)
        time.sleep(_LOOK_EVERY_S)


def _check_alive(answer: ray.ObjectRef) -> None:
    """See that an actor could be made.

    Raises:
        RunError: it could not.
    """
    try:
        if ray.wait([answer], timeout=0)[0]:
            ray.get(answer)
    except ActorUnavailableError:  # it was killed, and is being started again
        return
    except ActorDiedError as error:
        said = str(error).strip().splitlines()[-1].strip()
        raise RunError(f"the service did not start: {redact(said)}") from None
