"""One model that follows another while a run goes on. Pure: decides, given how detectors and scorers stand.

Detectors with the new model are loaded beside those with the old one, which go on. Once all of the new ones live and
the scorers know the new model's card, the old ones are retired: each camera process goes over once its old detector
holds none of its frames, so every camera has one model after the other, and no frame is lost. Where the new ones do
not come up, they are retired instead, and nothing else has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.models.card import ModelCard
from pipeline.models.source import ModelSource

LOADED_WITHIN_S = 300.0  # as long as a run waits for its first detectors
ModelPhase = Literal["in use", "loading", "taking over"]


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model that a run scores by, or is to.

    Attributes:
        card: what it says of itself.
        source: where detectors get it.
    """

    card: ModelCard
    source: ModelSource


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a run stands to its models; models are named by their fingerprints.

    Attributes:
        model: the one that scores, or that is taking over.
        place: where it was found, without credentials.
        phase: ``loading`` while another one is loaded beside it, ``taking over`` while cameras go over to it.
        before: the one that it followed, to which a run can go back; empty where there was none.
        coming: the one that is loaded.
        failure: why the last change was given up, one line; empty where it was not.
    """

    model: str = ""
    place: str = ""
    phase: ModelPhase = "in use"
    before: str = ""
    coming: str = ""
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        """As docs/alerts.md has it."""
        return {
            "fingerprint": self.model,
            "place": self.place,
            "phase": self.phase,
            "before": self.before,
            "coming": self.coming,
            "failure": self.failure,
        }


@dataclass(frozen=True, slots=True)
class SwapStep:
    """What is to be done with detectors.

    Attributes:
        retire: names of those to be retired.
        spare: whether spare ones, which were retired to make room, are to be there again.
    """

    retire: tuple[str, ...] = ()
    spare: bool = False


@dataclass(frozen=True, slots=True)
class SavedSwap:
    """What is to be remembered of a run's models where the process that changes them dies.

    Attributes:
        current: the one in use.
        before: the one that it followed.
        coming: the one that is loaded.
        left: the one whose detectors are leaving.
        new: names of the detectors that load the one that is coming.
        leaving: names of those that are leaving.
        failure: why the last change was given up.
    """

    current: RunModel
    before: RunModel | None = None
    coming: RunModel | None = None
    left: RunModel | None = None
    new: tuple[str, ...] = ()
    leaving: frozenset[str] = frozenset()
    failure: str = ""

    @property
    def models(self) -> tuple[RunModel, ...]:
        """All of them."""
        return tuple(model for model in (self.current, self.before, self.coming, self.left) if model is not None)


class ModelSwap:
    """The models of a run: one in use, perhaps one coming, and the one before.

    Args:
        model: the first.
        saved: where a process before this one has changed them.
        now: monotonic seconds.

    Attributes:
        current: the one in use.
        before: the one that it followed; None while there was none.
    """

    def __init__(self, model: RunModel, saved: SavedSwap | None = None, now: float = 0.0) -> None:
        self._first = model
        saved = saved or SavedSwap(model)
        self.current, self.before, self._coming = saved.current, saved.before, saved.coming
        self._new = saved.new
        self._leaving, self._left = saved.leaving, saved.left  # detectors, and the model that they have
        self._give_up_at = now + LOADED_WITHIN_S
        self._failure = saved.failure

    @property
    def saved(self) -> SavedSwap:
        """What is to be remembered."""
        return SavedSwap(self.current, self.before, self._coming, self._left, self._new, self._leaving, self._failure)

    def source_of(self, detector: str) -> ModelSource:
        """Where a detector gets its model, be it started for the first time or again."""
        if self._coming is not None and detector in self._new:
            return self._coming.source
        if self._left is not None and detector in self._leaving:
            return self._left.source
        return self.current.source

    @property
    def is_changing(self) -> bool:
        """Whether one model follows another at present."""
        return self._coming is not None or bool(self._leaving)

    @property
    def _is_taking_over(self) -> bool:
        return self._left is not None and self._leaving.isdisjoint(self._new)

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """What scorers must know: the models whose results may come, the wanted one last; none for the first alone."""
        models = [self._coming] if self._coming is not None else []
        models += [self._left] if self._left is not None else []
        if not models and self.current.card.fingerprint == self._first.card.fingerprint:
            return ()
        return tuple(model.card for model in (*models, self.current))

    def status(self) -> ModelStatus:
        """How it stands."""
        return ModelStatus(
            model=self.current.card.fingerprint,
            place=self.current.source.shown,
            phase="loading" if self._coming is not None else "taking over" if self._is_taking_over else "in use",
            before="" if self.before is None else self.before.card.fingerprint,
            coming="" if self._coming is None else self._coming.card.fingerprint,
            failure=self._failure,
        )

    def begin(self, model: RunModel, detectors: Collection[str], now: float) -> None:
        """Have another model follow; not while one does.

        Args:
            model: the other one.
            detectors: names of those that were made for it.
            now: monotonic seconds.
        """
        self._coming, self._new, self._failure = model, tuple(detectors), ""
        self._give_up_at = now + LOADED_WITHIN_S

    def step(
        self,
        now: float,
        *,
        detectors: Collection[str],
        up: Collection[str],
        failed: Mapping[str, str],
        scorers_follow: bool,
    ) -> SwapStep:
        """Decide what is to be done.

        Args:
            now: monotonic seconds.
            detectors: names of all that there are to be, those that were retired as long as they hold frames.
            up: names of those that live and have loaded their model.
            failed: why a detector cannot start, by its name.
            scorers_follow: whether every scorer knows the cards.
        """
        if self._leaving and not self._leaving & set(detectors):
            self._leaving, self._left = frozenset[str](), None
            return SwapStep(spare=True)
        if self._coming is None:
            return SwapStep()
        missing = [name for name in self._new if name not in up]
        why = next((f"{name} did not start: {failed[name]}" for name in missing if name in failed), "")
        if not why and missing and now >= self._give_up_at:
            why = f"expected {', '.join(missing)} to start within {LOADED_WITHIN_S:g} s, got no answer"
        if why:
            self._failure = f"model {self._coming.card.short_fingerprint}: {why}"
            self._leaving, self._left, self._coming = frozenset(self._new), self._coming, None
            return SwapStep(retire=self._new)
        if missing or not scorers_follow:
            return SwapStep()
        leaving = tuple(name for name in detectors if name not in self._new)
        self._leaving, self._left = frozenset(leaving), self.current
        self.before, self.current, self._coming = self.current, self._coming, None
        return SwapStep(retire=leaving)
