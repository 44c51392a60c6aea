"""Which scorer scores which camera: each a fixed slice of them, which nobody has to be asked for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pipeline.config import CAMERAS_PER_SCORER

_Item = TypeVar("_Item")


def scorer_count(cameras: int, wanted: int | None) -> int:
    """How many scorers a run has, from its start to its end.

    Args:
        cameras: how many it begins with.
        wanted: ``runtime.scorers``; None is one for every 200 cameras.
    """
    return wanted or max(1, -(-cameras // CAMERAS_PER_SCORER))


class ScorerSlices:
    """Who scores whom, by the camera's id alone: whoever knows the scorers knows it, whatever other cameras there are.

    Args:
        scorers: names of the scorers, in the order of their numbers; at least one.

    Attributes:
        first: number 0, which also says what belongs to the run as a whole.
    """

    def __init__(self, scorers: Sequence[str]) -> None:
        self._scorers = tuple(scorers)
        self.first = self._scorers[0]

    @property
    def are_many(self) -> bool:
        """Whether there is more than one."""
        return len(self._scorers) > 1

    def scorer_of(self, camera_id: str | None) -> str:
        """Name of the scorer that a camera belongs to; None stands for the run itself."""
        if camera_id is None:
            return self.first
        return self._scorers[zlib.crc32(camera_id.encode()) % len(self._scorers)]

    def split(self, items: Iterable[_Item], camera_id: Callable[[_Item], str | None]) -> dict[str, list[_Item]]:
        """By scorer, what of all this is its own, in order; scorers without any are left out.

        Args:
            items: things that are each about one camera, or about the run.
            camera_id: which camera one is about; None where it is about the run.
        """
        if len(self._scorers) == 1:
            return {self.first: alone} if (alone := list(items)) else {}
        split: dict[str, list[_Item]] = {}
        for item in items:
            split.setdefault(self.scorer_of(camera_id(item)), []).append(item)
        return split
