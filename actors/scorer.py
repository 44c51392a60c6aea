"""Actor that turns predictions into scores and alerts and passes them to the run's sinks."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.actor_client import exit_soon, start_vital_thread, this_node
from actors.evidence_keeper import EvidenceKeeper
from actors.plans import sink_settings
from pipeline.alerts import Alert, Notice
from pipeline.errors import RunError
from pipeline.logs import log_json_in_actor
from pipeline.run_folder import RunFolder
from pipeline.runtime.evidence import EvidenceAnswer
from pipeline.runtime.messages import DesiredScorerState, ScorerReport
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import sum_counts
from pipeline.runtime.tally import SECONDS, Histogram, Tally
from pipeline.scoring.camera_state import CameraState, end_abandoned
from pipeline.scoring.evidence import EvidenceDesk
from pipeline.scoring.scorer import Outcome, Scorer
from pipeline.sinks.base import Sink, SinkContext, SinkSettings
from pipeline.sinks.left_store import LeftStore
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.saved_run_state import SavedRunState
from pipeline.types import Dropped, Prediction, Score, Trouble
from pipeline.verdicts import VerdictFile

_log = logging.getLogger(__name__)

_REDIS = "redis"  # the sink whose counts are the run's own; those of others are counted apart
_LOST = "the run did not end in good order: it was killed, or its machine went down"
_ENDED = "the run ended in good order"
_WRITING_SHARE = 0.8  # of the time for closing, for all sinks together; the rest is for whoever is slow


class ScorerActor:
    """Owns the scoring state of its cameras, and sinks for them.

    Killed at any moment and started again, it goes on as if nothing had happened: what it remembers and the alerts it
    emits are committed together before a call is acknowledged, and detectors repeat calls that were not.

    Of several scorers each has a slice of the cameras, a store and sinks of its own. Number 0 also says what belongs to
    the run as a whole, and delivers what is left in the stores of scorers that an earlier run had and this one has not.

    Attributes:
        store: what outlives its process.
        sinks: name to sink, in the order in which they are closed: those that keep every row first.

    Args:
        plan: the run.
        number: which of the run's scorers it is.
    """

    def __init__(self, plan: RunPlan, number: int = 0) -> None:
        log_json_in_actor()
        os.umask(0o077)  # what it writes is this user's: on a cluster of one's own, it is not the command's child
        self._card = plan.card
        settings = sink_settings(plan.sinks)
        folder = RunFolder(plan.sinks.state_folder)
        self._speaks_for_run = number == 0
        self._version = 0
        self._began_at_s = time.time()
        self._scoring, self._all_stages = Histogram(SECONDS), Histogram(SECONDS)
        names = [sink.sink_name for sink in settings if sink.takes_alerts]
        rules = {sink.sink_name: sink.rules for sink in settings if sink.rules is not None}
        self.store = RunStore(folder.store_file(number), plan.name, names, rules)
        states = self.store.states()
        confirmed = {name: CameraState.of_json(text).last for name, text in states.items()}
        self._scorer = Scorer(plan.card, states)
        self._evidence, self._evidence_keeper = EvidenceDesk(self._state.evidence), None
        if plan.evidence is not None:
            self._evidence_keeper = EvidenceKeeper(plan.evidence, enforces=number == 0)
            start_vital_thread(self._evidence_keeper.keep)
        self.sinks: dict[str, Sink] = {}
        pictures = plan.evidence is not None and plan.evidence.settings.pictures
        for sink in settings:
            alerts = self.store.alerts(sink.sink_name) if sink.takes_alerts else None
            context = SinkContext(plan.name, confirmed, alerts, number, folder.path, keeps_pictures=pictures)
            self.sinks[sink.sink_name] = sink.open(context)
        self._verdicts = VerdictFile(folder.verdicts_file)
        self._hear_verdicts()
        self._end_abandoned()
        self._left: list[LeftStore] = []
        if self._speaks_for_run:
            self._left = list(_left_stores(folder.left_store_files(len(plan.scorers)), plan.name, settings))
            if self._state.run is None:
                self._begin(plan)

    @property
    def _state(self) -> SavedRunState:
        return self.store.run_state

    def agree(self, tuning: Mapping[str, Any], model: str = "") -> dict[str, Any]:
        """How all detectors of the run are to run a model, as long as it lasts: as the first one that asked would.

        Args:
            tuning: what suits the detector that asks, as ``Tuning.as_json`` gives it.
            model: fingerprint of its model.
        """
        if model not in self._state.tunings:
            tunings = {**self._state.tunings, model: dict(tuning)}
            self._commit({}, (), replace(self._state, tunings=tunings))
        return dict(self._state.tunings[model])

    def configure(self, desired: DesiredScorerState) -> None:
        """Follow a desired state: score its cameras from now on, and end the open events of others."""
        self._scorer.use(desired.cards or (self._card,), desired.normal)
        self._write(self._scorer.configure(desired.cameras, time.time(), desired.removed_cameras))
        self._version = desired.version

    def add(self, results: Sequence[Prediction | Dropped], model: str = "") -> bool:
        """Score frames and write what follows from them.

        Args:
            results: what became of frames.
            model: fingerprint of the model that made the predictions; empty for the plan's.

        Returns:
            False where a camera or the model is not known yet and all of it is to be sent again.
        """
        model = model or self._card.fingerprint
        if not self._scorer.knows((result.header.camera_id for result in results), model):
            return False
        started_at = time.perf_counter()
        outcome = self._scorer.update(results, model, time.time())
        self._write(outcome)
        self._scoring.add(time.perf_counter() - started_at, times=len(outcome.scores))
        for score in outcome.scores:
            self._all_stages.add(score.latency_s)
        return True

    def notify(self, notices: Sequence[tuple[int, Notice]]) -> None:
        """Emit numbered notices; those that were taken in before are passed over."""
        new = [(number, notice) for number, notice in notices if number > self._state.notices]
        if new:
            self._commit({}, [notice for _, notice in new], replace(self._state, notices=new[-1][0]))

    def finish(self, camera_ids: Sequence[str]) -> None:
        """Close the open events of cameras that ended."""
        self._write(self._scorer.finish(camera_ids, time.time()))

    def take_evidence(self, answers: Sequence[EvidenceAnswer]) -> None:
        """Take in what became of pictures and clips of events; once their files are in place, alerts tell of them."""
        if self._evidence_keeper is not None:
            self._tell_evidence(self._evidence_keeper.take(answers))

    def report(self) -> ScorerReport:
        """Its report."""
        return ScorerReport(
            version=self._version,
            notices=self._state.notices,
            cameras=self._scorer.status(),
            troubles=tuple(self._troubles()),
            alerts=self._alert_counts(),
            storage=self._storage_trouble(),
            node=this_node(),
            failing={name: sink.trouble is not None for name, sink in self.sinks.items()},
            tally=self._tally(),
            evidence=self._evidence.requests,
        )

    def _tally(self) -> Tally:
        histograms = {"scoring": self._scoring.counts(), "all": self._all_stages.counts()}
        return Tally(self._began_at_s, histograms, {name: sink.rows_lost for name, sink in self.sinks.items()})

    def _troubles(self) -> Iterator[Trouble]:
        """What stands in the way of writing at present."""
        open_sinks = [
            *self.sinks.values(),
            *(sink for left in self._left if left.is_open for sink in left.sinks.values()),
        ]
        yield from (trouble for sink in open_sinks if (trouble := sink.trouble) is not None)
        if (text := self.store.trouble) is not None:
            yield Trouble(text, text)

    def _alert_counts(self) -> dict[str, Any]:
        return sum_counts(_alert_counts(sinks) for sinks in (self.sinks, *(left.sinks for left in self._left)))

    def maintain(self, storage_elsewhere: str = "") -> None:
        """What is to be done every second, also while no camera brings frames.

        Args:
            storage_elsewhere: why another scorer cannot keep every row; of all of them, number 0 emits the notices.
        """
        if self._evidence_keeper is not None:
            self._tell_evidence(self._evidence_keeper.arrived())
        self._hear_verdicts()
        if self.store.emit_digests(time.time()):
            self._wake_sinks()
        for one in (*self.sinks.values(), *self._left):
            one.maintain()
        if self._speaks_for_run:
            self._watch_storage(self._storage_trouble() or storage_elsewhere)

    def close(self, within_s: float = 6.0, failure: str = "") -> tuple[list[str], dict[str, Any]]:
        """Close all events and sinks; returns one line per thing that could not be written, and the alerts' counts.

        Args:
            within_s: seconds for it. What is not a file by then is a journal, which the next run into the folder turns
                into one, and alerts that were not delivered wait for it in the run store.
            failure: why the run cannot go on, one line; empty where it ends in good order.
        """
        self._write(self._scorer.close(time.time()))
        self.maintain()
        if self._speaks_for_run:
            self._end(failure)
        if self.store.emit_digests(time.time(), at_once=True):
            self._wake_sinks()
        closed = (*self._left, *self.sinks.values())
        for one in closed:
            one.close(_WRITING_SHARE * within_s / len(closed))
        self.store.end_run(SavedRunState(run=self._state.run))
        unwritten, alerts = [line for sink in self.sinks.values() for line in sink.unwritten()], self._alert_counts()
        self.store.close()
        return unwritten, alerts

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def end(self) -> None:
        """End its process, where being killed does not."""
        exit_soon()

    def _hear_verdicts(self) -> None:
        """Follow what people said of events."""
        said = self._verdicts.news()
        if said is not None:
            self._scorer.judge(said)

    def _write(self, outcome: Outcome) -> None:
        """Rows first: those whose states were not committed when the process was killed are scored again."""
        alerts, run_state = self._with_evidence(outcome)
        scores = self.store.marked(outcome.scores, alerts)
        self._write_to_sinks(scores, to_storage=True)
        self._commit(outcome.states, alerts, run_state)
        self._write_to_sinks(scores, to_storage=False)

    def _with_evidence(self, outcome: Outcome) -> tuple[Sequence[Alert | Notice], SavedRunState | None]:
        """The alerts, and the run's state with the evidence that is wanted of their events."""
        if self._evidence_keeper is None or not outcome.alerts:
            return outcome.alerts, None
        alerts = self._evidence.take(outcome.alerts, outcome.moments)
        return alerts, replace(self._state, evidence=self._evidence.saved())

    def _tell_evidence(self, answers: Sequence[EvidenceAnswer]) -> None:
        if answers:
            alerts = self._evidence.answer(answers, time.time())
            self._commit({}, alerts, replace(self._state, evidence=self._evidence.saved()))

    def _write_to_sinks(self, scores: Sequence[Score], *, to_storage: bool) -> None:
        for sink in self.sinks.values():
            if scores and sink.is_storage == to_storage:
                sink.write(scores)

    def _commit(
        self, states: Mapping[str, str], alerts: Sequence[Alert | Notice], run_state: SavedRunState | None = None
    ) -> None:
        if states or alerts or run_state is not None:
            self.store.commit(states, alerts, run_state)
        if alerts:
            self._wake_sinks()

    def _wake_sinks(self) -> None:
        for sink in self.sinks.values():
            sink.wake()

    def _storage_trouble(self) -> str:
        troubles = (sink.trouble for sink in self.sinks.values() if sink.is_storage)
        return next((trouble.text for trouble in troubles if trouble), "")

    def _watch_storage(self, trouble: str) -> None:
        """Say so, once, when rows can no longer be written, and when they can again."""
        now_s, begun = time.time(), self._state.storage
        if trouble and begun is None:
            event_id = f"storage-{round(now_s * 1000)}"
            failing = Notice("storage_failing", event_id, None, trouble, now_s, None, now_s)
            self._commit({}, [failing], replace(self._state, storage=failing))
        elif not trouble and begun is not None:
            said = "rows are written again"
            restored = Notice("storage_restored", begun.event_id, None, said, begun.since_at_s, now_s, now_s)
            self._commit({}, [restored], replace(self._state, storage=None))

    def _begin(self, plan: RunPlan) -> None:
        """Say that the run has begun; whoever gets this notice gets one of its end, be it from the next run."""
        now_s = time.time()
        said = f"{plan.name} begins with {len(plan.cameras)} cameras"
        begun = Notice("run_started", f"{plan.name}-{round(now_s * 1000)}", None, said, now_s, None, now_s)
        self._commit({}, [begun], replace(self._state, run=begun))

    def _end(self, failure: str) -> None:
        """Say that the run is over, and remember it in the same commit: whoever comes after says it no second time."""
        said = self._state.run
        if said is not None and said.until_at_s is None:
            over = _over(said, failure)
            self._commit({}, [over], replace(self._state, run=over))

    def _end_abandoned(self) -> None:
        """End the events that an earlier run into this folder left open because it was killed whole, and say so."""
        ends: list[Alert | Notice] = [*_ends_of(self.store.abandoned())]
        if (said := self.store.abandoned_run.run) is not None and said.until_at_s is None:
            ends.append(_over(said, _LOST))
        self.store.forget_abandoned(ends)


def _ends_of(states: Mapping[str, str]) -> list[Alert | Notice]:
    """The ends of the events that are open in cameras' states, by camera id."""
    now_s = time.time()
    return [end for camera, text in states.items() for end in end_abandoned(camera, CameraState.of_json(text), now_s)]


def _left_stores(paths: Sequence[Path], run: str, settings: Sequence[SinkSettings]) -> Iterator[LeftStore]:
    for path in paths:
        try:
            yield LeftStore(path, run, settings, _ends_of)
        except RunError as error:  # of another version, or unreadable: no reason to score nothing
            _log.error("%s; what an earlier run left in it waits for the next one", error)


def _alert_counts(sinks: Mapping[str, Sink]) -> dict[str, Any]:
    all_counts = {name: sink.alert_counts for name, sink in sinks.items()}
    counts = {name: found.as_json() for name, found in all_counts.items() if found is not None}
    redis = counts.pop(_REDIS)
    return {**redis, "sinks": counts} if counts else redis


def _over(begun: Notice, failure: str) -> Notice:
    """The end of a run that was said to have begun."""
    now_s = time.time()
    kind = "run_lost" if failure else "run_ended"
    return replace(begun, kind=kind, until_at_s=now_s, emitted_at_s=now_s, reason=failure or _ENDED)
