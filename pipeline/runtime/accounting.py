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


_NOTHING = ReaderCounts(0, 0, {})
_DECODED = "decoded"
_COUNTERS_KEPT = 8  # of a camera that moves every few hours for years


@dataclass(frozen=True, slots=True)
class SavedAccounting:
    """One camera's frame counts.

    Attributes:
        readers: by frame counters, in the order in which they were counted in, the newest last.
        counted: by frame counters, frames of them that the scorer has heard of.
        newest_counted: of which the scorer has heard last.
        summed_up: counters that are over, of which only the sums are kept.
        sums: those sums, by reason.
        scored: frames that got a score.
        dropped: frames that were dispatched and got none, by reason.
        written_off: frames that were given up, by reason.
    """

    readers: tuple[tuple[str, ReaderCounts], ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict[str, int])
    newest_counted: str = ""
    summed_up: frozenset[str] = frozenset()
    sums: Mapping[str, int] = field(default_factory=dict[str, int])
    scored: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    written_off: Mapping[str, int] = field(default_factory=dict[str, int])


class CameraAccounting:
    """One camera's frame counts over all frame counters it was counted in, and the decision when they are settled.

    Other counters mean another node. What those before have dispatched is in flight as long as the scorer has heard of
    no frame that others dispatched later; what it has not heard of by then is lost (``detector_lost``). What they had
    not dispatched is lost at once (``camera_lost``). Counters that were lost with their node count as last reported,
    or, where the scorer has heard of more, as it says: a frame of which nobody heard has not been decoded.

    Frames in flight that vanished without a trace would keep a camera that ended open for ever: when its frame counts
    have not moved for ``patience_s``, they are written off.

    Args:
        patience_s: longest silence of the frame counts of a camera that ended.
        saved: what was counted before.
    """

    def __init__(self, patience_s: float, saved: SavedAccounting | None = None) -> None:
        saved = saved or SavedAccounting()
        self._patience_s = patience_s
        self._readers: dict[str, ReaderCounts] = dict(saved.readers)  # in the order in which they were counted in
        self._counted: dict[str, int] = dict(saved.counted)
        self._newest_counted = saved.newest_counted
        self._summed_up: set[str] = set(saved.summed_up)  # counters that are over, of which only the sums are kept
        self._sums: Counter[str] = Counter(saved.sums)
        self._scored = saved.scored
        self._dropped: Mapping[str, int] = saved.dropped
        self._written_off: Counter[str] = Counter(saved.written_off)
        self._counts: FrameCounts | None = None  # worked out when asked for, and kept until something else is said
        self._last: FrameCounts | None = None
        self._moved_at = 0.0

    def saved(self) -> SavedAccounting:
        """All of it, to be counted on from."""
        return SavedAccounting(
            readers=tuple(self._readers.items()),
            counted=dict(self._counted),
            newest_counted=self._newest_counted,
            summed_up=frozenset(self._summed_up),
            sums=dict(self._sums),
            scored=self._scored,
            dropped=self._dropped,
            written_off=dict(self._written_off),
        )

    def unreported(self) -> tuple[object, ...]:
        """What in it nobody will report again, in a form that is compared quickly."""
        return tuple(self._readers), len(self._summed_up), tuple(self._written_off.items())

    def update_reader(self, counter_id: str, reader: ReaderCounts) -> None:
        """Take in what was counted in one set of counters; that of the latest call is the one that is counted in now.

        Args:
            counter_id: of the counters.
            reader: its counts now.
        """
        self._counts = None
        self._readers.pop(counter_id, None)
        self._readers[counter_id] = reader
        if len(self._readers) <= _COUNTERS_KEPT:
            return
        for oldest in list(self._readers)[:-_COUNTERS_KEPT]:
            if self._is_superseded(oldest):
                self._sums.update(self._final(oldest))
                self._summed_up.add(oldest)
                self._readers.pop(oldest)
                self._counted.pop(oldest, None)

    def update_former_reader(self, counter_id: str, reader: ReaderCounts) -> None:
        """Take in what is said of counters by somebody who counts in them no longer; others on that node may by now.

        Args:
            counter_id: of the counters.
            reader: their counts.
        """
        self._counts = None
        known = self._readers.get(counter_id)
        if known is None and counter_id not in self._summed_up:
            self._readers = {counter_id: reader} | self._readers
        elif known is not None and known.decoded <= reader.decoded and known.dispatched <= reader.dispatched:
            self._readers[counter_id] = reader

    def update_scorer(self, scored: int, dropped: Mapping[str, int], counted: Mapping[str, int] | None = None) -> None:
        """Take in what the scorer says.

        Args:
            scored: frames that got a score.
            dropped: frames that were dispatched and got none, by reason.
            counted: as in ``ScoringStatus``; None where it does not say.
        """
        self._counts = None
        self._scored, self._dropped = scored, dropped
        for counter_id, count in (counted or {}).items():
            if counter_id not in self._summed_up:
                self._counted[counter_id], self._newest_counted = count, counter_id

    def counts(self) -> FrameCounts:
        """The counts now. A frame that was scored has been decoded, though its reader may not have said so."""
        if self._counts is None:
            self._counts = self._work_out()
        return self._counts

    def _work_out(self) -> FrameCounts:
        dropped = Counter(self._dropped) + self._written_off + self._sums
        for counter_id in dict.fromkeys((*self._readers, *self._counted)):
            dropped.update(self._final(counter_id))
        decoded = max(dropped.pop(_DECODED, 0), self._scored + sum(dropped.values()))
        return FrameCounts(decoded, self._scored, {reason: n for reason, n in sorted(dropped.items()) if n})

    def _final(self, counter_id: str) -> Counter[str]:
        """Frames that came, and what was dropped, by reason, of those that one set of counters has counted."""
        reader, counted = self._readers.get(counter_id, _NOTHING), self._counted.get(counter_id, 0)
        never_dispatched = sum(reader.dropped.values())
        dispatched = max(reader.dispatched, counted)
        came = max(reader.decoded, dispatched + never_dispatched)
        counts = Counter({_DECODED: came, **reader.dropped})
        if counter_id != next(reversed(self._readers), None):
            counts["camera_lost"] += came - dispatched - never_dispatched
            if self._is_superseded(counter_id):
                counts["detector_lost"] += dispatched - counted
        return counts

    def _is_superseded(self, counter_id: str) -> bool:
        """Whether the scorer has heard of frames that other counters dispatched later."""
        if counter_id in self._counted:
            return counter_id != self._newest_counted
        order = list(self._readers)
        return self._newest_counted in order and order.index(counter_id) < order.index(self._newest_counted)

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
        self._counts = None
