"""Which normal frames the flows learn from, and which are kept to measure what normal scores look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import DatasetError

_WHOLE_CLIPS_FROM = 4  # scenes with fewer clips give up the ends of all instead of one of few


@dataclass(frozen=True)
class Split:
    """Frames of every clip, in the order of the clips; no frame is in both parts.

    Attributes:
        train: frames to learn from.
        heldout: frames held out; empty ranges where a clip gives none.
    """

    train: tuple[range, ...]
    heldout: tuple[range, ...]

    @property
    def train_frames(self) -> int:
        """Frames to learn from."""
        return sum(map(len, self.train))


def split_clips(scenes: Sequence[str], lengths: Sequence[int], fraction: float) -> Split:
    """Hold out about a fraction of every scene's frames.

    Whole clips, evenly spread, where a scene has enough of them: frames of one clip resemble each other, so only unseen
    clips show how unseen footage scores. Otherwise the end of each clip, at least one frame.

    Args:
        scenes: scene of each clip.
        lengths: frames of each clip.
        fraction: in (0, 1).

    Raises:
        DatasetError: there is no clip, or one has fewer than two frames.
    """
    if not lengths or min(lengths) < 2:
        raise DatasetError(f"expected training clips of two frames or more, got lengths {list(lengths)}")
    train = [range(length) for length in lengths]
    heldout = [range(0)] * len(lengths)
    for scene in dict.fromkeys(scenes):
        members = [number for number, name in enumerate(scenes) if name == scene]
        if len(members) >= _WHOLE_CLIPS_FROM:
            count = max(1, round(fraction * len(members)))
            for turn in range(count):
                chosen = members[int((turn + 0.5) * len(members) / count)]
                train[chosen], heldout[chosen] = range(0), range(lengths[chosen])
        else:
            for number in members:
                cut = lengths[number] - max(1, round(fraction * lengths[number]))
                train[number], heldout[number] = range(cut), range(cut, lengths[number])
    return Split(tuple(train), tuple(heldout))
