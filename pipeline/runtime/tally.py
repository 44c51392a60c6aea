"""What a process has counted of the frames that went through it, and the sums over all processes of a run.

Each process counts since it began and reports that; only the sums of a run live as long as the run does. A process that
dies takes with it what it counted since its last report, and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper edges of the buckets of times, in seconds."""

BATCH_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper edges of the buckets of batch sizes, in frames."""

STAGES = ("camera_buffer", "inbox", "prediction", "scoring")
"""What a frame goes through, each with a histogram of seconds."""

EDGES = {**dict.fromkeys((*STAGES, "all"), SECONDS), "batch_frames": BATCH_FRAMES}
"""Everything that there are histograms of, and their edges; ``all`` is from the decoder to the score."""


@dataclass(frozen=True, slots=True)
class DetectorLoad:
    """How busy a detector is.

    Attributes:
        busy_s: seconds that it predicted, since its process began.
        batches: batches it predicted since then.
        frames: frames in them.
        waiting: frames that wait in it at present.
        oldest_s: since when the oldest of them waits, in seconds; 0 where none does.
    """

    busy_s: float = 0.0
    batches: int = 0
    frames: int = 0
    waiting: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """A histogram at one moment.

    Attributes:
        edges: upper edges of all buckets but the last, ascending; a value belongs to the first bucket whose edge it
            does not exceed.
        buckets: how many values are in each; one more than there are edges.
        total: sum of all values.
    """

    edges: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float

    @classmethod
    def none(cls, edges: tuple[float, ...]) -> HistogramCounts:
        """One without values."""
        return cls(edges, (0,) * (len(edges) + 1), 0.0)

    def plus(self, other: HistogramCounts) -> HistogramCounts:
        """The values of both, which have the same edges."""
        buckets = tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True))
        return HistogramCounts(self.edges, buckets, self.total + other.total)

    def since(self, before: HistogramCounts) -> HistogramCounts:
        """The values that came after an earlier moment."""
        buckets = tuple(a - b for a, b in zip(self.buckets, before.buckets, strict=True))
        return HistogramCounts(self.edges, buckets, self.total - before.total)


class Histogram:
    """Counts values in buckets: a fraction of a microsecond for each. One thread adds, any may ask.

    Args:
        edges: as in ``HistogramCounts``.
    """

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._buckets = [0] * (len(edges) + 1)
        self._total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value, as if it had come so many times."""
        self._buckets[bisect_left(self._edges, value)] += times
        self._total += value * times

    def counts(self) -> HistogramCounts:
        """What was counted so far."""
        return HistogramCounts(self._edges, tuple(self._buckets), self._total)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one process has counted since it began.

    Attributes:
        began_at_s: Unix time at which it began, by its node's clock; tells it from the process before it.
        histograms: by what they are of (``EDGES``); those that this kind of actor knows.
        rows_lost: by sink, the rows that it will never have.
    """

    began_at_s: float = 0.0
    histograms: Mapping[str, HistogramCounts] = field(default_factory=dict[str, HistogramCounts])
    rows_lost: Mapping[str, int] = field(default_factory=dict[str, int])


class RunTally:
    """The sums over all processes of a run, the dead ones included. They never decrease while this lives.

    Args:
        began_at_s: Unix time from which on is counted. Of processes that are older (a supervisor that was started again
            finds them at work), only what they count from their first report here on: sums that jumped up would look
            like frames of this moment.
    """

    def __init__(self, began_at_s: float) -> None:
        self._began_at_s = began_at_s
        self._seen: dict[str, Tally] = {}
        self._histograms = {name: HistogramCounts.none(edges) for name, edges in EDGES.items()}
        self._rows_lost: dict[str, int] = {}

    @property
    def histograms(self) -> Mapping[str, HistogramCounts]:
        """The sums of all histograms, by what they are of."""
        return self._histograms

    @property
    def rows_lost(self) -> Mapping[str, int]:
        """By sink."""
        return self._rows_lost

    def update(self, tallies: Mapping[str, Tally | None]) -> None:
        """Take in what processes report.

        Args:
            tallies: of every actor that there is, by its name; None of one that does not answer at present, which may
                be the same process again when it does.
        """
        self._seen = {name: tally for name, tally in self._seen.items() if name in tallies}
        for name, tally in tallies.items():
            if tally is None:
                continue
            before = self._seen.get(name)
            is_older = tally.began_at_s < self._began_at_s
            if before is not None and before.began_at_s != tally.began_at_s:
                before = None  # another process of the same actor
            elif before is None and is_older:
                before = tally
            self._seen[name] = tally
            if before is not tally:
                self._add(tally, before or Tally())

    def _add(self, tally: Tally, before: Tally) -> None:
        for stage, counts in tally.histograms.items():
            known = before.histograms.get(stage)
            added = counts if known is None else counts.since(known)
            self._histograms[stage] = self._histograms[stage].plus(added)
        for sink, lost in tally.rows_lost.items():
            self._rows_lost[sink] = self._rows_lost.get(sink, 0) + lost - before.rows_lost.get(sink, 0)
