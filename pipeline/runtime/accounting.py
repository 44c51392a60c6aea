"""Frame accounting: what became of every frame that came, put together from what each process counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.types import FrameCounts


@dataclass(frozen=True, slots=True)
class ReaderCounts:
    """What was counted in one counter file, up to the dispatch to a detector.

    Attributes:
        decoded: frames that came.
        dispatched: frames dispatched to a detector.
        dropped: frames that never were, by reason.
    """

    decoded: int
    dispatched: int
    dropped: Mapping[str, int]

    @property
    def waiting(self) -> int:
        """Frames that wait to be dispatched."""
        return max(self.decoded - self.dispatched - sum(self.dropped.values()), 0)


@dataclass(frozen=True, slots=True)
class SavedAccounting:
    """One camera's frame counts.

    Attributes:
        readers: by counter file, in the order in which they were used, the newest last.
        scored: frames that got a score.
        dropped: frames that were dispatched and got none, by reason.
        written_off: frames that were given up, by reason.
    """

    readers: tuple[tuple[str, ReaderCounts], ...] = ()
    scored: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    written_off: Mapping[str, int] = field(default_factory=dict[str, int])


class CameraAccounting:
    """One camera's frame counts over all counter files it was counted in, and the decision when they are settled.

    Frames in flight that vanished without a trace would keep a camera that ended open for ever: when its frame counts
    have not moved for ``patience_s``, they are written off.

    Args:
        patience_s: longest silence of the frame counts of a camera that ended.
        saved: what was counted before.
    """

    def __init__(self, patience_s: float, saved: SavedAccounting | None = None) -> None:
        saved = saved or SavedAccounting()
        self._patience_s = patience_s
        self._readers: dict[str, ReaderCounts] = dict(saved.readers)
        self._scored = saved.scored
        self._dropped: Mapping[str, int] = saved.dropped
        self._written_off: Counter[str] = Counter(saved.written_off)
        self._last: FrameCounts | None = None
        self._moved_at = 0.0

    def saved(self) -> SavedAccounting:
        """All of it, to be counted on from."""
        return SavedAccounting(tuple(self._readers.items()), self._scored, self._dropped, dict(self._written_off))

    def unreported(self) -> tuple[object, ...]:
        """What in it nobody will report again, in a form that is compared quickly."""
        return tuple(self._readers), tuple(self._written_off.items())

    def update_reader(self, counter_id: str, reader: ReaderCounts) -> None:
        """Take in what was counted in one counter file; the one of the latest call is the one that is counted in now.

        Args:
            counter_id: of the file.
            reader: its counts now.
        """
        self._readers.pop(counter_id, None)
        self._readers[counter_id] = reader

    def update_scorer(self, scored: int, dropped: Mapping[str, int]) -> None:
        """Take in what the scorer says.

        Args:
            scored: frames that got a score.
            dropped: frames that were dispatched and got none, by reason.
        """
        self._scored, self._dropped = scored, dropped

    def counts(self) -> FrameCounts:
        """The counts now. A frame that was scored has been decoded, though its reader may not have said so."""
        dropped = Counter(self._dropped) + self._written_off
        *former, current = list(self._readers.values()) or [ReaderCounts(0, 0, {})]
        for reader in (*former, current):
            dropped.update(reader.dropped)
        dropped["camera_lost"] += sum(reader.waiting for reader in former)
        decoded = max(sum(reader.decoded for reader in (*former, current)), self._scored + sum(dropped.values()))
        return FrameCounts(decoded, self._scored, {reason: n for reason, n in sorted(dropped.items()) if n})

    def settled(self, ended: bool, now: float) -> bool:
        """Whether the camera is done: it ended, and none of its frames is in flight.

        Args:
            ended: whether no frame will come any more.
            now: monotonic seconds.
        """
        counts = self.counts()
        if counts != self._last:
            self._last, self._moved_at = counts, now
        if ended and counts.in_flight > 0 and now - self._moved_at >= self._patience_s:
            self.write_off("detector_lost")
        return ended and self.counts().in_flight == 0

    def write_off(self, reason: str) -> None:
        """Give up what is in flight."""
        self._written_off[reason] += max(self.counts().in_flight, 0)
