"""The books: what became of every frame that came, put together from what each process counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.types import FrameAccount


@dataclass(frozen=True, slots=True)
class Book:
    """What was counted in one ledger, up to the handing over to a detector.

    Attributes:
        decoded: frames that came.
        handed: frames handed to a detector.
        dropped: frames that never were, by reason.
    """

    decoded: int
    handed: int
    dropped: Mapping[str, int]

    @property
    def waiting(self) -> int:
        """Frames that wait to be handed over."""
        return max(self.decoded - self.handed - sum(self.dropped.values()), 0)


class CameraBooks:
    """One camera's books over all ledgers it was counted in, and the decision when they are settled.

    Frames in flight that vanished without a trace would keep a camera that ended open for ever: when its books have not
    moved for ``patience_s``, they are written off.

    Args:
        patience_s: longest silence of the books of a camera that ended.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._books: dict[str, Book] = {}
        self._scored = 0
        self._dropped: Mapping[str, int] = {}
        self._written_off: Counter[str] = Counter()
        self._last: FrameAccount | None = None
        self._moved_at = 0.0

    def read(self, name: str, book: Book) -> None:
        """Take in a ledger. Of ledgers with different names, only the last one is still counted in.

        Args:
            name: of the ledger.
            book: what it says now.
        """
        self._books.pop(name, None)
        self._books[name] = book

    def judge(self, scored: int, dropped: Mapping[str, int]) -> None:
        """Take in what the scorer says.

        Args:
            scored: frames that got a score.
            dropped: frames that were handed over and got none, by reason.
        """
        self._scored, self._dropped = scored, dropped

    def account(self) -> FrameAccount:
        """The books as they stand. A frame that was scored has been decoded, though its reader may not have said so."""
        dropped = Counter(self._dropped) + self._written_off
        *former, current = list(self._books.values()) or [Book(0, 0, {})]
        for book in (*former, current):
            dropped.update(book.dropped)
        dropped["camera_lost"] += sum(book.waiting for book in former)
        decoded = max(sum(book.decoded for book in (*former, current)), self._scored + sum(dropped.values()))
        return FrameAccount(decoded, self._scored, {reason: n for reason, n in sorted(dropped.items()) if n})

    def settled(self, ended: bool, now: float) -> bool:
        """Whether the camera is done: it ended, and none of its frames is in flight.

        Args:
            ended: whether no frame will come any more.
            now: monotonic seconds.
        """
        account = self.account()
        if account != self._last:
            self._last, self._moved_at = account, now
        if ended and account.in_flight > 0 and now - self._moved_at >= self._patience_s:
            self.write_off("detector_lost")
        return ended and self.account().in_flight == 0

    def write_off(self, reason: str) -> None:
        """Give up what is in flight."""
        self._written_off[reason] += max(self.account().in_flight, 0)
