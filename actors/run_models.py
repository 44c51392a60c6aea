"""The models of a run, as its supervisor deals with them: one in use, and at times another that follows it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from actors.actor_set import ActorSet
from actors.fleet import Fleet
from pipeline.camera_settings import CameraSettings
from pipeline.errors import BadInputError, CheckpointError
from pipeline.models.card import ModelCard
from pipeline.redaction import redact
from pipeline.runtime.desired_state import DesiredStates
from pipeline.runtime.messages import DesiredScorerState
from pipeline.runtime.model_swap import ModelStatus, ModelSwap, RunModel, SavedSwap
from pipeline.scoring.run_footage import RunFootage

_log = logging.getLogger(__name__)

_CHANGING = "expected a run whose model is not changing, got one where a change is under way"


class RunModels:
    """Changes the model; any thread may ask for it, and the supervisor's step carries it on.

    Args:
        card: of the first.
        fleet: makes detectors.
        actors: those that there are.
        desired_states: which of them are to be there, and what scorers must know.
        lock: the supervisor's, which guards all of these.
        saved: where a process before this one has changed them.
    """

    def __init__(
        self,
        card: ModelCard,
        fleet: Fleet,
        actors: ActorSet,
        desired_states: DesiredStates,
        lock: threading.RLock,
        saved: SavedSwap | None = None,
    ) -> None:
        self._fleet, self._actors, self._desired_states, self._lock = fleet, actors, desired_states, lock
        self._swap = ModelSwap(RunModel(card, fleet.models.first), saved, time.monotonic())
        self._spare = len(fleet.detectors) - fleet.active
        fleet.models.source_of = self._swap.source_of
        self._footage, self._cameras = RunFootage(), tuple[CameraSettings, ...]()
        self._preparing = threading.Lock()  # a model and a camera may come at once; taken before ``lock``
        for model in self._swap.saved.models:
            self._know(model)
        if saved is not None:
            self._tell()

    @property
    def is_changing(self) -> bool:
        """Whether one model follows another at present."""
        return self._swap.is_changing

    @property
    def current(self) -> RunModel:
        """The one in use, or that is taking over."""
        return self._swap.current

    @property
    def before(self) -> RunModel | None:
        """The one that it followed; None where there was none."""
        return self._swap.before

    def scoring(self) -> tuple[RunModel, ...]:
        """Those that score frames at present: the one in use, and the one before as long as cameras go over from it."""
        before = self.before if self.status().phase == "taking over" else None
        return (self.current,) if before is None else (self.current, before)

    def status(self) -> ModelStatus:
        """How the run stands to its models."""
        with self._lock:
            return self._swap.status()

    @property
    def saved(self) -> SavedSwap | None:
        """What is to be remembered where this process dies; None where the run has its first model."""
        saved = self._swap.saved
        return saved if self.is_changing or saved.before is not None or saved.failure else None

    def check_can_change(self) -> None:
        """See whether the model can be changed at present.

        Raises:
            BadInputError: it is changing.
        """
        if self.is_changing:
            raise BadInputError(_CHANGING)

    def prepare(self, cameras: Sequence[CameraSettings]) -> None:
        """Have scorers know what normal footage these cameras' thresholds are made of, before they are scored.

        It takes as long as reading stored maps, where a camera brings zones that none had before.

        Args:
            cameras: all that the run is to read.
        """
        with self._preparing:
            self._cameras = tuple(cameras)
            self._tell_normal()

    def change(self, model: RunModel) -> None:
        """Have another model follow. Returns at once; ``status`` says what became of it.

        Args:
            model: read and checked.

        Raises:
            BadInputError: the model is changing, or two find no room beside each other; nothing has changed.
            RunError: its files could not be brought to where other nodes get them.
        """
        self.check_can_change()
        source = self._fleet.models.offered(model.source)
        with self._lock:
            count, spare = self._desired_states.active_detectors, self._desired_states.spare_detectors()
        self._fleet.check_room_beside(count, len(spare))
        self._footage.keep({known.card.fingerprint for known in self._swap.saved.models})
        self._know(replace(model, source=source))
        with self._preparing:
            self._tell_normal()
        with self._lock:
            self.check_can_change()
            self._desired_states.retire_detectors(spare)  # makes room, also in memory
            detectors = self._desired_states.add_detectors(count)
            self._swap.begin(replace(model, source=source), detectors, time.monotonic())
            self._tell()

    def step(self, now: float) -> None:
        """Carry a change on, as detectors and scorers report. Waits for nobody.

        Args:
            now: monotonic seconds.
        """
        if not self.is_changing:
            return
        monitors, states = self._actors.detectors, self._desired_states
        step = self._swap.step(
            now,
            detectors=states.detectors,
            up={name for name, detector in monitors.items() if detector.report is not None},
            failed={name: detector.failure for name, detector in monitors.items() if detector.failure},
            scorers_follow=self._scorers_follow(),
        )
        states.retire_detectors(step.retire)
        self._tell()
        if step.spare:
            states.add_detectors(self._spare)

    def read_footage_again(self) -> bool:
        """Read anew what lies beside the models; it takes effect with the next ``prepare``.

        Returns:
            Whether it is something else than before.
        """
        changed = [self._know(model) for model in self._swap.saved.models]
        return any(changed)

    def _know(self, model: RunModel) -> bool:
        """Read what lies beside a model; where it cannot be had, thresholds are made without it, or as before."""
        try:
            return self._footage.know(model.card, self._fleet.models.folder(model.source))
        except CheckpointError as error:
            _log.error("%s; thresholds are made without what lies beside the model", redact(error))
            return False

    def _tell_normal(self) -> None:
        normal = self._footage.of(self._cameras)
        with self._lock:
            self._desired_states.normal = normal

    def _tell(self) -> None:
        self._desired_states.cards = self._swap.cards
        self._desired_states.scene_references = self.current.card.views

    def _scorers_follow(self) -> bool:
        newest = self._desired_states.newest
        for name, scorer in self._actors.scorers.items():
            desired = newest.get(name)
            if scorer.report is None or desired is None or scorer.report.version != desired.version:
                return False
            if isinstance(desired, DesiredScorerState) and desired.cards != self._swap.cards:  # it is still to be told
                return False
        return True
