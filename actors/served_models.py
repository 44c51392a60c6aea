"""Where the detectors of a run get their models, on whatever node they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from actors.actor_monitor import cause_of
from actors.cluster import actor_class
from actors.model_server import ModelServer
from pipeline.errors import BadInputError, RunError
from pipeline.models.fetching import held_model, refresh_normal
from pipeline.models.source import ModelSource
from pipeline.remote_files import is_address
from pipeline.runtime.plan import RunPlan

_KEPT_WITHIN_S = 120.0


class ServedModels:
    """The models of a run, for all of its nodes.

    Args:
        plan: the run.
        options: gives Ray's, of the actor that hands out folders to nodes that lack them, where one is needed.

    Raises:
        BadInputError: the plan's model cannot be copied.
        RunError: that actor does not answer.

    Attributes:
        first: where detectors get the plan's model.
        source_of: gives where a detector gets its model, by its name.
    """

    def __init__(self, plan: RunPlan, options: Callable[[], Mapping[str, Any]]) -> None:
        self._name, self._copies, self._options = plan.model_server, plan.model_copies, options
        self._server: ActorHandle | None = None
        self.first = self.offered(plan.model)
        self.source_of: Callable[[str], ModelSource] = lambda detector: self.first

    def offered(self, source: ModelSource) -> ModelSource:
        """A model's source for every node of the run; a folder is copied for that where the run has other nodes.

        Raises:
            BadInputError: it cannot be copied.
            RunError: the actor that keeps copies does not answer.
        """
        if self._name is None or is_address(source.place):
            return source
        if self._server is None:
            options = {"name": self._name, "max_concurrency": 4, **self._options()}
            self._server = actor_class(ModelServer, options).remote(self._copies)
        kept = self._server.keep.remote(source)  # pyright: ignore[reportOptionalMemberAccess] # Ray types no actors
        try:
            ray.get(kept, timeout=_KEPT_WITHIN_S)
        except RayTaskError as error:
            raise BadInputError(cause_of(error)) from None
        except RayError as error:
            raise RunError(f"{self._name} did not take the model {source.short_fingerprint}: {error}") from None
        return replace(source, server=self._name)

    def folder(self, source: ModelSource) -> Path:
        """Where a model's files lie on the node of whoever asks for them in this run's name.

        Args:
            source: as ``offered`` gave it.

        Raises:
            CheckpointError: it lies at an address, and cannot be had from there.
        """
        if is_address(source.place):
            with held_model(source) as (folder, _):
                refresh_normal(source.place, folder)
                return folder
        if source.server is None:
            return Path(source.place)
        copy = self._copies / source.fingerprint
        if copy.is_dir():
            refresh_normal(source.place, copy)
        return copy

    def close(self) -> None:
        """End the actor that hands out models, and delete its copies."""
        if self._server is not None:
            ray.kill(self._server)
            shutil.rmtree(self._copies, ignore_errors=True)
