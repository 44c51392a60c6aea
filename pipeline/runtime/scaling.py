"""How many detectors a run needs, by how busy they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.runtime.tally import DetectorLoad

_SAMPLE_EVERY_S = 1.0
_WINDOW_S = 10.0
_GROW_AFTER_S = 15.0
_SHRINK_AFTER_S = 180.0
_SATURATED = 0.95  # busy for that share of the time, a detector has nothing left
_BUSY = 0.75  # where frames are dropped or wait besides
_CALM = 0.6  # busy for less, if there were one fewer
_LATE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    busy_s: float
    dropped: int


class DetectorScaling:
    """Decides how many detectors there are to be, between two limits. Pure: time is passed in.

    One more where they were overloaded for 15 s without a break: busy almost all of the time, or most of it while
    frames were dropped or waited for a second. One fewer where for three minutes the others would have done it with
    ease. A burst so starts nothing, and between the two lies enough that one which was added is not taken away again.
    While one of them is not there (it loads its model, or died) nothing is decided.

    Args:
        minimum: fewest detectors.
        maximum: most detectors.
    """

    def __init__(self, minimum: int, maximum: int) -> None:
        self._minimum, self._maximum = minimum, max(minimum, maximum)
        self._busy_s: dict[str, float] = {}
        self._total_s = 0.0
        self._forget(0)

    def update(self, now: float, loads: Mapping[str, DetectorLoad], *, active: int, dropped: int, room: int) -> int:
        """How many there are to be.

        Args:
            now: monotonic seconds.
            loads: of the detectors that live and are not to leave, by name; spare ones included.
            active: how many are to work at present.
            dropped: frames that came too late or were too many for them, since the run began.
            room: how many the cluster has room for in all.
        """
        if active != self._active or len(loads) < active:
            self._forget(active)
        if self._samples and now - self._samples[-1].at < _SAMPLE_EVERY_S:
            return active
        self._sample(now, loads, dropped)
        first, last = self._samples[0], self._samples[-1]
        lasted_s = last.at - first.at
        if len(loads) < active or lasted_s < _WINDOW_S - 2 * _SAMPLE_EVERY_S:
            return active
        busy = (last.busy_s - first.busy_s) / lasted_s  # detectors' worth
        late = last.dropped > first.dropped or max(load.oldest_s for load in loads.values()) >= _LATE_S
        overloaded = busy >= active * (_BUSY if late else _SATURATED)
        calm = not late and busy <= (active - 1) * _CALM
        self._overloaded_since = (self._overloaded_since or now) if overloaded else None
        self._calm_since = (self._calm_since or now) if calm else None
        if self._overloaded_since is not None and now - self._overloaded_since >= _GROW_AFTER_S:
            return max(min(active + 1, self._maximum, room), active)
        if self._calm_since is not None and now - self._calm_since >= _SHRINK_AFTER_S:
            return max(active - 1, min(self._minimum, active))
        return active

    def _sample(self, now: float, loads: Mapping[str, DetectorLoad], dropped: int) -> None:
        for name, load in loads.items():
            before = self._busy_s.get(name, 0.0)
            self._total_s += load.busy_s - before if load.busy_s >= before else load.busy_s  # started again
        self._busy_s = {name: load.busy_s for name, load in loads.items()}
        self._samples.append(_Sample(now, self._total_s, dropped))
        while now - self._samples[0].at > _WINDOW_S:
            self._samples.popleft()

    def _forget(self, active: int) -> None:
        self._active = active
        self._samples: deque[_Sample] = deque()
        self._overloaded_since: float | None = None
        self._calm_since: float | None = None
