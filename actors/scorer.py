"""Actor that turns predictions into scores and alerts and hands them to Redis and Parquet."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline.models.card import read_card
from pipeline.runtime.messages import ScorerOrder, ScorerReport
from pipeline.runtime.plan import RunPlan
from pipeline.scoring.camera import CameraState, end_of_abandoned
from pipeline.scoring.scorer import Outcome, Scorer
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.redis_stream import RedisSink
from pipeline.sinks.run_store import RunStore
from pipeline.types import Alert, Dropped, Notice, Prediction, Trouble

_NOTICES = "#notices"  # kept beside the cameras' states; no camera's id begins so
_STORAGE = "#storage"
_TUNING = "#tuning"
_RUN = "#run"
_LOST = "the run did not end in good order: it was killed, or its machine went down"
_ENDED = "the run ended in good order"
_WRITING_SHARE = 0.4  # of the time for closing, for files and for Redis each; the rest is for whoever is slow


class ScorerActor:
    """Owns the scoring state of every camera and the sinks.

    Killed at any moment and started again, it goes on as if nothing had happened: what it remembers and the alerts it
    emits are committed together before a call is acknowledged, and detectors repeat calls that were not.

    Args:
        plan: the run.
    """

    def __init__(self, plan: RunPlan) -> None:
        os.umask(0o077)  # what it writes is this user's: on a cluster of one's own, it is not the command's child
        card = read_card(plan.model_folder)
        sinks = plan.sinks
        self._version = 0
        self._store = RunStore(sinks.store_file, plan.name)
        states = self._store.states()
        self._notices = int(states.pop(_NOTICES, 0))
        failing = states.pop(_STORAGE, "")
        self._tuning: dict[str, Any] = json.loads(states.pop(_TUNING, "{}"))
        self._failing: Notice | None = Notice(**json.loads(failing)) if failing else None
        said_of_run = states.pop(_RUN, "")
        self._scorer = Scorer(card, states)
        self._redis = RedisSink(
            sinks.redis_url.get_secret_value(),
            store=self._store,
            scores_maxlen=sinks.scores_maxlen,
            alerts_maxlen=sinks.alerts_maxlen,
        )
        self._parquet = ParquetSink(
            sinks.scores_folder,
            model_fingerprint=card.fingerprint,
            maps=sinks.maps,
            rotate_s=sinks.rotate_s,
            run=plan.name,
            confirmed={name: CameraState.of_json(text).last for name, text in states.items()},
        )
        self._end_abandoned()
        # Of the run itself, the newest: that it has begun or, where a process before this one said so, that it is over.
        self._said_of_run = Notice(**json.loads(said_of_run)) if said_of_run else self._begin(plan)

    def agree(self, tuning: Mapping[str, Any]) -> dict[str, Any]:
        """How all detectors of the run are to run the model, as long as it lasts: as the first one that asked would.

        Args:
            tuning: what suits the detector that asks, as ``Tuning.as_json`` gives it.
        """
        if not self._tuning:
            self._tuning = dict(tuning)
            self._commit({_TUNING: json.dumps(self._tuning)}, ())
        return self._tuning

    def configure(self, order: ScorerOrder) -> None:
        """Follow an order: score its cameras from now on, and end the open events of others."""
        self._write(self._scorer.configure(order.cameras, time.time(), order.former))
        self._version = order.version

    def add(self, fates: Sequence[Prediction | Dropped]) -> bool:
        """Score frames and write what follows from them.

        Returns:
            False where a camera is not known yet and all of it is to be sent again.
        """
        if not self._scorer.knows(fate.header.camera_id for fate in fates):
            return False
        self._write(self._scorer.update(fates, time.time()))
        return True

    def notify(self, notices: Sequence[tuple[int, Notice]]) -> None:
        """Emit numbered notices; those that were taken in before are passed over."""
        new = [(number, notice) for number, notice in notices if number > self._notices]
        if new:
            self._notices = new[-1][0]
            self._commit({_NOTICES: str(self._notices)}, [notice for _, notice in new])

    def finish(self, camera_ids: Sequence[str]) -> None:
        """Close the open events of cameras that ended."""
        self._write(self._scorer.finish(camera_ids, time.time()))

    def report(self) -> ScorerReport:
        """How it stands."""
        return ScorerReport(
            version=self._version,
            notices=self._notices,
            cameras=self._scorer.status(),
            troubles=tuple(
                Trouble(key=text, text=text)
                for text in (self._redis.trouble, self._parquet.trouble, self._store.trouble)
                if text
            ),
            alerts=self._alert_counts(),
        )

    def _alert_counts(self) -> dict[str, int]:
        stats = self._redis.stats()
        return {
            "emitted": stats.alerts_emitted,
            "delivered": stats.alerts_delivered,
            "dropped": stats.alerts_dropped,
            "waiting": stats.alerts_waiting,
        }

    def tend(self) -> None:
        """What is to be done every second, also while no camera brings frames."""
        self._parquet.write([])  # rotates, and tries again what failed
        self._watch_storage()

    def close(self, within_s: float = 6.0, failure: str = "") -> tuple[list[str], dict[str, int]]:
        """Close all events and sinks; returns one line per thing that could not be written, and the alerts' counts.

        Args:
            within_s: seconds for it. What is not a file by then is a journal, which the next run into the folder turns
                into one, and alerts that were not delivered wait for it in the run store.
            failure: why the run cannot go on, one line; empty where it ends in good order.
        """
        self._write(self._scorer.close(time.time()))
        self.tend()
        self._end(failure)
        self._parquet.close(_WRITING_SHARE * within_s)
        self._redis.close(_WRITING_SHARE * within_s)
        self._store.end_run({_RUN: _as_state(self._said_of_run)})
        faults, alerts = [*self._redis.faults(), *self._parquet.faults()], self._alert_counts()
        self._store.close()
        return faults, alerts

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _write(self, outcome: Outcome) -> None:
        """Rows first: those whose states were not committed when the process was killed are scored again."""
        if outcome.scores:
            self._parquet.write(outcome.scores)
        self._commit(outcome.states, outcome.alerts)
        if outcome.scores:
            self._redis.write(outcome.scores)

    def _commit(self, states: Mapping[str, str], alerts: Sequence[Alert | Notice]) -> None:
        if states or alerts:
            self._store.commit(states, alerts)
        if alerts:
            self._redis.wake()

    def _watch_storage(self) -> None:
        """Say so, once, when rows can no longer be written, and when they can again."""
        trouble, now_s = self._parquet.trouble, time.time()
        if trouble and self._failing is None:
            event_id = f"storage-{round(now_s * 1000)}"
            self._failing = Notice("storage_failing", event_id, None, trouble, now_s, None, now_s)
            self._commit({_STORAGE: _as_state(self._failing)}, [self._failing])
        elif not trouble and self._failing is not None:
            begun, self._failing = self._failing, None
            said = "rows are written again"
            restored = Notice("storage_restored", begun.event_id, None, said, begun.since_at_s, now_s, now_s)
            self._commit({_STORAGE: ""}, [restored])

    def _begin(self, plan: RunPlan) -> Notice:
        """Say that the run has begun; whoever is told so is told how it ended, be it by the next run."""
        now_s = time.time()
        said = f"{plan.name} begins with {len(plan.cameras)} cameras"
        begun = Notice("run_started", f"{plan.name}-{round(now_s * 1000)}", None, said, now_s, None, now_s)
        self._commit({_RUN: _as_state(begun)}, [begun])
        return begun

    def _end(self, failure: str) -> None:
        """Say that the run is over, and remember it in the same commit: whoever comes after says it no second time."""
        if self._said_of_run.until_at_s is None:
            self._said_of_run = _over(self._said_of_run, failure)
            self._commit({_RUN: _as_state(self._said_of_run)}, [self._said_of_run])

    def _end_abandoned(self) -> None:
        """End the events that an earlier run into this folder left open because it was killed whole, and say so."""
        now_s = time.time()
        ends: list[Alert | Notice] = []
        abandoned = self._store.abandoned()
        for camera_id, text in abandoned.items():
            if not camera_id.startswith("#"):
                ends += end_of_abandoned(camera_id, CameraState.of_json(text), now_s)
        if _RUN in abandoned and (said := Notice(**json.loads(abandoned[_RUN]))).until_at_s is None:
            ends.append(_over(said, _LOST))
        self._store.forget_abandoned(ends)


def _as_state(notice: Notice) -> str:
    return json.dumps(asdict(notice))


def _over(begun: Notice, failure: str) -> Notice:
    """The end of a run that was said to have begun."""
    now_s = time.time()
    kind = "run_lost" if failure else "run_ended"
    return replace(begun, kind=kind, until_at_s=now_s, emitted_at_s=now_s, reason=failure or _ENDED)
