"""The scorers of a run, as its supervisor deals with them: each has its slice of the cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ray.exceptions import RayError, RayTaskError

from actors.actor_monitor import ActorMonitor, Answer, cause_of
from actors.deliveries import Deliveries, NoticeQueue
from pipeline.alerts import Notice
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.runtime.slices import ScorerSlices
from pipeline.runtime.supervision import SavedNotices
from pipeline.types import Trouble

_ABORT_WITHIN_S = 3.0
_LAST_S = 1.0  # of the time for closing, kept for number 0: that the run is over is said after everything else


class Scorers:
    """What is said to scorers, and what they say.

    Args:
        actors: the scorers by name, in the order of their numbers.
        slices: who has which cameras.
        registry: gets what they say of cameras and alerts.
        deliveries: takes notices to them.
        saved: notices that were on their way before, by scorer.
    """

    def __init__(
        self,
        actors: Mapping[str, ActorMonitor],
        slices: ScorerSlices,
        registry: CameraRegistry,
        deliveries: Deliveries,
        saved: Mapping[str, SavedNotices],
    ) -> None:
        self._actors, self._slices, self._registry, self._deliveries = actors, slices, registry, deliveries
        self._notices = {name: NoticeQueue(saved.get(name)) for name in actors}
        self._finishing: dict[str, tuple[Answer, list[str]]] = {}
        self._storage: dict[str, str] = {}  # why each cannot keep every row, as it last said

    @property
    def has_notices(self) -> bool:
        """Whether a notice is still on its way to one of them."""
        return any(notices.waiting for notices in self._notices.values())

    def take_reports(self) -> None:
        """Take in what they report."""
        for name, actor in self._actors.items():
            if (report := actor.report) is not None:
                self._registry.update_scoring(report.cameras)
                self._registry.update_alerts(name, report.alerts)
                self._notices[name].acknowledge(report.notices)
                self._storage[name] = report.storage

    def troubles(self) -> tuple[Trouble, ...]:
        """What stands in the way of writing; what several of them say in the same words is said once."""
        reports = [actor.report for actor in self._actors.values() if actor.report is not None]
        return tuple(dict.fromkeys(trouble for report in reports for trouble in report.troubles))

    def saved(self) -> dict[str, SavedNotices]:
        """Notices on their way, by scorer, to be gone on from."""
        return {name: notices.saved() for name, notices in self._notices.items()}

    def add(self, notices: Iterable[Notice]) -> None:
        """Number notices for the scorers of their cameras, to be sent."""
        for name, own in self._slices.split(notices, lambda notice: notice.camera_id).items():
            self._notices[name].add(own)

    def send(self) -> None:
        """Send notices to scorers, which emit them; to be repeated until they have them."""
        for name, actor in self._actors.items():
            waiting = self._notices[name].waiting
            if waiting and actor.report is not None:
                number = waiting[-1][0]
                self._deliveries.send(name, number, lambda a=actor, w=waiting: a.call("notify", w), topic="notices")

    def finish_settled(self, now: float, *, draining: bool) -> None:
        """Have the open events of cameras that ended closed.

        Args:
            now: monotonic seconds.
            draining: whether all cameras were asked to end.
        """
        for name, (answer, ids) in list(self._finishing.items()):
            if answer.has_arrived():
                del self._finishing[name]
                with suppress(RayError):  # asked again
                    answer.get()
                    self._registry.finish(ids)
        newly = self._slices.split(self._registry.newly_settled(now, draining=draining), str)
        for name, ids in newly.items():
            if name not in self._finishing:
                self._finishing[name] = self._actors[name].call("finish", ids), ids

    def maintain(self) -> None:
        """Have them do what is due every second; number 0 is told what keeps others from keeping every row."""
        storage = next((said for name, said in self._storage.items() if said and name != self._slices.first), "")
        for name, actor in self._actors.items():
            actor.call("maintain", *([storage] if name == self._slices.first else []))

    def close(self, deadline: ShutdownDeadline) -> list[str]:
        """Have all of them write what they hold back, and number 0 say that the run is over; what was not written.

        Args:
            deadline: time for it, whoever hangs.
        """

        def left_s() -> float:
            return deadline.left_s(time.monotonic())

        others = [name for name in self._actors if name != self._slices.first]
        unwritten: list[str] = []
        if others:
            with ThreadPoolExecutor(len(others), thread_name_prefix="close") as pool:
                for lines in pool.map(lambda name: self._close(name, lambda: max(0.0, left_s() - _LAST_S)), others):
                    unwritten += lines
        return [*unwritten, *self._close(self._slices.first, left_s)]

    def abort(self, failure: str) -> None:
        """Have them close their files, and number 0 say at once that the run is over.

        Args:
            failure: why it cannot go on, one line; empty where its user stopped it.
        """
        give_up_at = time.monotonic() + _ABORT_WITHIN_S
        for answer in [actor.call("close", _ABORT_WITHIN_S, failure) for actor in self._actors.values()]:
            with suppress(RayError):
                answer.get(max(0.0, give_up_at - time.monotonic()))

    def _close(self, name: str, left_s: Callable[[], float]) -> list[str]:
        """Close one; one line for everything that it could not write, by whom where there are several."""
        try:
            lines, alerts = self._actors[name].call_until_answered("close", left_s)
            self._registry.update_alerts(name, alerts)
        except RayTaskError as error:
            return [f"{name} could not close its files: {cause_of(error)}"]
        except RayError:
            return [f"{name} did not come back in time to close its files: the next run into this folder does"]
        return [f"{name}: {line}" for line in lines] if len(self._actors) > 1 else lines
