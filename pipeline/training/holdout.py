"""Which normal frames a model learns from, and which are kept to measure what normal scores look like.

Footage is held out in blocks that are spread over all that a scene has, in however many files it came: what is kept
from one hour says little of the others. Neighbouring frames resemble each other, so some at either end of a block serve
neither part. Where a scene came in many short clips, whole ones are held out: between them there is a gap already.

Where there is little footage, every part of it is held out in turn (``cross_splits``), each from a model of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.errors import DatasetError

BLOCK_S = 20.0
"""A block is this long, longer where there would be too many, and shorter where there would be too few."""

GAP_S = 5.0
"""What serves neither part at either end of a block; at most a quarter of it."""

FOLDS = 3
"""Parts of cross-fitted footage: each model learns from two of them, and is measured on the third."""

_FEWEST_BLOCKS = 4  # as long as they last a second each
_MOST_BLOCKS = 24
_LEAST_BLOCK_S = 1.0
_WHOLE_CLIPS_FROM = 4  # scenes with fewer clips give up parts of all instead of one of few


class Part(NamedTuple):
    """Consecutive frames of a clip.

    Attributes:
        clip: its number.
        frames: their numbers in it; at least one.
    """

    clip: int
    frames: range


@dataclass(frozen=True)
class Split:
    """Frames of clips, in their order; no frame is in both parts, and some may be in neither.

    Attributes:
        train: frames to learn from.
        heldout: frames held out.
    """

    train: tuple[Part, ...]
    heldout: tuple[Part, ...]

    @property
    def train_frames(self) -> int:
        """Frames to learn from."""
        return count_frames(self.train)


def count_frames(parts: Sequence[Part]) -> int:
    """How many frames some parts have together."""
    return sum(len(part.frames) for part in parts)


def split_clips(scenes: Sequence[str], lengths: Sequence[int], rates: Sequence[float], fraction: float) -> Split:
    """Hold out about a fraction of every scene's frames, at least one.

    Args:
        scenes: scene of each clip.
        lengths: frames of each clip.
        rates: frames per second of each clip.
        fraction: in (0, 0.5].

    Raises:
        DatasetError: there is no clip, or one has fewer than two frames.
    """
    footage = _by_scene(scenes, lengths, rates)
    heldout, gaps = list[Part](), dict[int, int]()
    for scene in footage:
        wanted_s = fraction * scene.frames / scene.fps
        blocks = _block_count(wanted_s, scene.frames // 2)
        if scene.has_short_clips(wanted_s / blocks):
            count = max(1, round(fraction * len(scene.clips)))
            chosen = [scene.clips[int((turn + 0.5) * len(scene.clips) / count)] for turn in range(count)]
            heldout += [Part(clip, range(lengths[clip])) for clip in chosen]
            continue
        gap = scene.gap(round(fraction * scene.frames / blocks))
        gaps.update(dict.fromkeys(scene.clips, gap))
        for start, stop in _spans(scene.frames, blocks):
            length = max(1, round(fraction * (stop - start)))
            first = start + (stop - start - length) // 2
            heldout += scene.parts(first, first + length)
    return _split(lengths, heldout, gaps)


def cross_splits(scenes: Sequence[str], lengths: Sequence[int], rates: Sequence[float]) -> tuple[Split, ...]:
    """``FOLDS`` splits that hold out every frame of the footage once, each of them a part of every scene.

    Args:
        scenes: scene of each clip; every scene has ``FOLDS`` frames or more.
        lengths: frames of each clip.
        rates: frames per second of each clip.

    Raises:
        DatasetError: as ``split_clips``.
    """
    heldout: list[list[Part]] = [[] for _ in range(FOLDS)]
    gaps: dict[int, int] = {}
    for scene in _by_scene(scenes, lengths, rates):
        turns = min(_MOST_BLOCKS // FOLDS, max(2, int(scene.frames / scene.fps / FOLDS / BLOCK_S)))
        blocks = min(FOLDS * turns, scene.frames // FOLDS * FOLDS)
        if scene.has_short_clips(scene.frames / scene.fps / blocks):
            for turn, clip in enumerate(scene.clips):
                heldout[turn % FOLDS].append(Part(clip, range(lengths[clip])))
            continue
        gaps.update(dict.fromkeys(scene.clips, scene.gap(scene.frames // blocks)))
        for turn, (start, stop) in enumerate(_spans(scene.frames, blocks)):
            heldout[turn % FOLDS] += scene.parts(start, stop)
    return tuple(_split(lengths, of_fold, gaps) for of_fold in heldout)


@dataclass(frozen=True)
class _Scene:
    """The footage of a scene, one clip after the other.

    Attributes:
        clips: numbers of its clips.
        lengths: frames of each.
        fps: frames per second, the median over them.
    """

    clips: list[int]
    lengths: list[int]
    fps: float

    @property
    def frames(self) -> int:
        return sum(self.lengths)

    def has_short_clips(self, block_s: float) -> bool:
        """Whether its clips are many, and none is longer than blocks would be, or are usual to be."""
        longest_s = max(self.lengths) / self.fps
        return len(self.clips) >= _WHOLE_CLIPS_FROM and longest_s <= max(block_s, BLOCK_S)

    def gap(self, block: int) -> int:
        """Frames at either end of a block of so many that serve neither part."""
        return min(round(GAP_S * self.fps), block // 4)

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """Frames of the whole footage, counted through, by the clips that they are of."""
        for clip, length in zip(self.clips, self.lengths, strict=True):
            frames = range(max(0, start), min(length, stop))
            if frames:
                yield Part(clip, frames)
            start, stop = start - length, stop - length


def _by_scene(scenes: Sequence[str], lengths: Sequence[int], rates: Sequence[float]) -> list[_Scene]:
    if not lengths or min(lengths) < 2:
        raise DatasetError(f"expected training clips of two frames or more, got lengths {list(lengths)}")
    found = []
    for scene in dict.fromkeys(scenes):
        clips = [number for number, name in enumerate(scenes) if name == scene]
        fps = statistics.median(rates[clip] for clip in clips)
        found.append(_Scene(clips, [lengths[clip] for clip in clips], fps))
    return found


def _block_count(wanted_s: float, most: int) -> int:
    fewest = min(_FEWEST_BLOCKS, max(1, int(wanted_s / _LEAST_BLOCK_S)))
    return max(1, min(max(fewest, round(wanted_s / BLOCK_S)), _MOST_BLOCKS, most))


def _spans(frames: int, count: int) -> Iterator[tuple[int, int]]:
    """Footage cut into so many spans, as equal as can be."""
    ends = [turn * frames // count for turn in range(count + 1)]
    return pairwise(ends)


def _split(lengths: Sequence[int], heldout: Sequence[Part], gaps: dict[int, int]) -> Split:
    """What is held out, in order; what is not, and is not too near to it within a clip, is to be learned from."""
    learned = [np.ones(length, bool) for length in lengths]
    for clip, frames in heldout:
        gap = gaps.get(clip, 0)
        learned[clip][max(0, frames.start - gap) : frames.stop + gap] = False
    train = [Part(clip, frames) for clip, chosen in enumerate(learned) for frames in _runs(chosen)]
    return Split(tuple(train), tuple(sorted(heldout, key=lambda part: (part.clip, part.frames.start))))


def _runs(chosen: np.ndarray) -> Iterator[range]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen, [0]]).astype(np.int8)))
    return (range(int(start), int(stop)) for start, stop in edges.reshape(-1, 2))
