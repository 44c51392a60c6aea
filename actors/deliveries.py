"""Numbered messages to actors: repeated until they arrive, never twice at a time; what could not be done is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ray.exceptions import RayError, RayTaskError

from actors.actor_monitor import Answer, cause_of
from pipeline.alerts import Notice
from pipeline.runtime.supervision import SavedNotices
from pipeline.types import Trouble


class Deliveries:
    """Calls that tell actors something, until they are answered."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], tuple[int, Answer]] = {}
        self._troubles: dict[tuple[str, str], Trouble] = {}

    def send(self, actor: str, number: int, call: Callable[[], Answer], *, topic: str = "desired state") -> None:
        """Make a call, unless the same one is on its way.

        Args:
            actor: its name, as the user reads it.
            number: of what is sent; another number is sent at once.
            call: makes the call.
            topic: numbers are counted for each by itself.
        """
        self._take_answers()
        before = self._sent.get((actor, topic))
        if before is None or before[0] != number:
            self._sent[actor, topic] = number, call()

    def troubles(self) -> tuple[Trouble, ...]:
        """What actors could not do when they last got one; that one died is reported elsewhere."""
        self._take_answers()
        return tuple(self._troubles.values())

    def forget(self, actor: str) -> None:
        """Say nothing more of an actor that was ended."""
        for about in [about for about in {*self._sent, *self._troubles} if about[0] == actor]:
            self._sent.pop(about, None)
            self._troubles.pop(about, None)

    def _take_answers(self) -> None:
        for about, (_, answer) in list(self._sent.items()):
            if not answer.has_arrived():
                continue
            del self._sent[about]
            self._troubles.pop(about, None)
            try:
                answer.get()
            except RayTaskError as error:
                key = f"{about[0]} refuses: {type(error.cause).__name__}"
                self._troubles[about] = Trouble(key, f"{about[0]} cannot do what it is told: {cause_of(error)}")
            except RayError:
                pass


class NoticeQueue:
    """Notices for the scorer, numbered from 1, until it has taken them in.

    Args:
        saved: those that waited before, and the number of the newest.

    Attributes:
        waiting: those it has not, in order, each with its number.
    """

    def __init__(self, saved: SavedNotices | None = None) -> None:
        saved = saved or SavedNotices()
        self.waiting = saved.waiting
        self._newest = saved.newest

    def saved(self) -> SavedNotices:
        """All of it, to be gone on from."""
        return SavedNotices(self._newest, self.waiting)

    def add(self, notices: Iterable[Notice]) -> None:
        """Number notices and let them wait."""
        new = tuple(enumerate(notices, self._newest + 1))
        self._newest += len(new)
        self.waiting += new

    def acknowledge(self, number: int) -> None:
        """Forget those up to a number: the scorer has them."""
        self.waiting = tuple(numbered for numbered in self.waiting if numbered[0] > number)
