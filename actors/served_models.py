"""Where each detector of a run gets its model, on whatever node it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from actors.actor_monitor import cause_of
from actors.cluster import actor_class
from actors.model_server import ModelServer
from pipeline.errors import BadInputError, RunError
from pipeline.models.source import ModelSource, is_address
from pipeline.runtime.plan import RunPlan

_KEPT_WITHIN_S = 120.0


def model_origin(run: str) -> str:
    """Name of the actor that brings a service its model, from the node of the command that starts it."""
    return f"{run}-origin"


class ServedModels:
    """The models of a run, by detector.

    Args:
        plan: the run.
        options: gives Ray's, of the actor that hands out folders to nodes that lack them, where one is needed.
        origin: name of such an actor on the node that has the plan's model; None where it can be read here.

    Raises:
        BadInputError: the plan's model cannot be copied.
        RunError: that actor does not answer.
    """

    def __init__(self, plan: RunPlan, options: Callable[[], Mapping[str, Any]], origin: str | None = None) -> None:
        self._name, self._copies, self._options = plan.model_server, plan.model_copies, options
        self._server: ActorHandle | None = None
        self._source_of: dict[str, ModelSource] = {}
        self.wanted = self.offered(plan.model, origin)
        """What a detector gets that was given no model by its name."""

    def of(self, detector: str) -> ModelSource:
        """Where a detector is to get its model."""
        return self._source_of.get(detector, self.wanted)

    def give(self, detectors: Iterable[str], source: ModelSource) -> None:
        """Have these detectors use a model, whenever they are started."""
        self._source_of.update(dict.fromkeys(detectors, source))

    def offered(self, source: ModelSource, origin: str | None = None) -> ModelSource:
        """A model's source for every node of the run; a folder is copied for that where the run has other nodes.

        Args:
            source: as it was named.
            origin: see ``ServedModels``.

        Raises:
            BadInputError: it cannot be copied.
            RunError: the actor that keeps copies does not answer.
        """
        if self._name is None or is_address(source.place):
            return source
        if self._server is None:
            options = {"name": self._name, "max_concurrency": 4, **self._options()}
            self._server = actor_class(ModelServer, options).remote(self._copies)
        try:
            ray.get(self._server.keep.remote(source, origin), timeout=_KEPT_WITHIN_S)
        except RayTaskError as error:
            raise BadInputError(cause_of(error)) from None
        except RayError as error:
            raise RunError(f"{self._name} did not take the model {source.short_fingerprint}: {error}") from None
        return replace(source, server=self._name)

    def close(self) -> None:
        """End the actor that hands out models, and delete its copies."""
        if self._server is not None:
            ray.kill(self._server)
            shutil.rmtree(self._copies, ignore_errors=True)
