"""Read-outs side by side on stored maps, and which of them is chosen: what ``benchmarks.read_out`` decides by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.evaluation.metrics import frame_auroc
from pipeline.models.anomaly_model import AnomalyMaps
from pipeline.models.card import ReadOutConstants
from pipeline.models.read_out import read
from pipeline.models.score import frame_scores
from pipeline.training.read_out import MeasuredPart, constants_of
from pipeline.training.synthetic_anomalies import KINDS

TOP_FRACTIONS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
LEVELS = ("all", "finest")
COMBINATIONS = ("max", "sum", "appearance", "motion")
SHARES: Mapping[str, float | None] = {"none": 0.0, "learned": None, "all": 1.0}
COLUMNS: tuple[str, ...] = ("frame", *KINDS, "small", "any light", "pixel")
NEAR = 0.005
"""Of AUROC: what is better by less is no reason to change anything."""

Numbers = dict[str, float]
"""AUROC by column."""


@dataclass(frozen=True)
class Variation:
    """A read-out.

    Attributes:
        top_fraction: as for ``frame_scores``.
        levels: as in ``ScoreSettings``.
        combination: what becomes of appearance and motion: the larger of both, their sum, or one alone.
        share: how much of its median is taken off a map of appearance.
    """

    top_fraction: float
    levels: str
    combination: str
    share: str

    def __str__(self) -> str:
        if self.combination == "motion":
            return f"motion, top {self.top_fraction:g}"
        return f"{self.combination}, top {self.top_fraction:g}, levels {self.levels}, share {self.share}"


@dataclass(frozen=True)
class Maps:
    """What is stored of N frames, all of them with a pair.

    Attributes:
        every: appearance of all levels, float32, shape (N, h, w).
        finest: of the finest level alone, same shape.
        speeds: in units of what is usual, float32, shape (N, h', w').
    """

    every: Tensor
    finest: Tensor
    speeds: Tensor

    def appearance(self, levels: str) -> AnomalyMaps:
        """As a model with these ``score.levels`` makes it."""
        return AnomalyMaps(self.every, self.every if levels == "all" else self.finest)

    @property
    def paired(self) -> Tensor:
        """True of every frame."""
        return torch.ones(len(self.every), dtype=torch.bool)

    @staticmethod
    def joined(parts: Sequence[Maps]) -> Maps:
        """Frames of several, one after another."""
        return Maps(*(torch.cat([getattr(of, name) for of in parts]) for name in ("every", "finest", "speeds")))


@dataclass(frozen=True)
class Seen:
    """What one model makes of its set.

    Attributes:
        normal: held-out frames, in their own and in other light.
        learned: frames that were learned from, which count where little is held out; or None.
        usual_speeds: of all normal footage, as in ``Maps``.
        synthetic: frames with something pasted, in their own and in other light.
        kinds: of what is pasted, str, shape (M,).
        masks: cells that it covers by half or more, bool, shape (M, h, w).
    """

    normal: tuple[Maps, Maps]
    learned: Maps | None
    usual_speeds: Tensor
    synthetic: tuple[Maps, Maps]
    kinds: npt.NDArray[np.str_]
    masks: npt.NDArray[np.bool_]


def variations(present: Variation) -> list[Variation]:
    """All that are compared, the present one among them."""
    tops = sorted({*TOP_FRACTIONS, present.top_fraction})
    every = list(product(tops, LEVELS, [name for name in COMBINATIONS if name != "motion"], SHARES))
    return [Variation(*one) for one in every] + [Variation(top, "all", "motion", "none") for top in tops]


def compare(seen: Seen, wanted: Sequence[Variation]) -> dict[Variation, Numbers]:
    """AUROCs of synthetic against normal frames, by each read-out with constants of its own."""
    pixel: dict[tuple[object, ...], float] = {}
    covered = seen.masks.sum(axis=(1, 2))
    small = covered <= np.median(covered)
    found = {}
    for of in wanted:
        constants = _constants(seen, of)
        normal, synthetic = ([_scores(maps, of, constants) for maps in lit] for lit in (seen.normal, seen.synthetic))
        of_kind = {kind: _auroc(synthetic[0][seen.kinds == kind], normal[0]) for kind in KINDS}
        # What is shown knows neither levels nor the maximum: it is computed once for those that share it.
        key = _shown_as(of), of.top_fraction, of.share
        if key not in pixel:
            pixel[key] = _pixel_auroc(seen, of, constants)
        everything = np.concatenate(synthetic), np.concatenate(normal)
        of_small = _auroc(synthetic[0][small], normal[0])
        values = (_auroc(synthetic[0], normal[0]), *of_kind.values(), of_small, _auroc(*everything), pixel[key])
        found[of] = dict(zip(COLUMNS, values, strict=True))
    return found


def mean_of(by_set: Sequence[Mapping[Variation, Numbers]]) -> dict[Variation, Numbers]:
    """Unweighted mean over sets."""
    return {
        of: {column: float(np.mean([numbers[of][column] for numbers in by_set])) for column in COLUMNS}
        for of in by_set[0]
    }


def best(mean: Mapping[Variation, Numbers], present: Variation) -> Variation:
    """The best by frames in their own light; of what is within ``NEAR`` of it, what differs least from the present."""
    highest = max(numbers["frame"] for numbers in mean.values())
    near = [of for of in mean if mean[of]["frame"] >= highest - NEAR]
    return min(near, key=lambda of: (_differences(of, present), -mean[of]["frame"]))


def table(numbers: Mapping[Variation, Numbers], rows: Sequence[Variation]) -> str:
    """As Markdown."""
    lines = [f"| read-out | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    lines += [f"| {of} | {' | '.join(f'{numbers[of][column]:.3f}' for column in COLUMNS)} |" for of in rows]
    return "\n".join(lines)


def neighbours(present: Variation, of: Sequence[Variation]) -> list[Variation]:
    """The present one, and those that differ from it in one thing."""
    return [present, *(one for one in of if _differences(one, present) == 1)]


def _differences(one: Variation, other: Variation) -> int:
    if one.combination == "motion":
        return 1 if one.top_fraction == other.top_fraction else 2
    return sum(a != b for a, b in zip(_parts(one), _parts(other), strict=True))


def _parts(of: Variation) -> Iterator[object]:
    yield from (of.top_fraction, of.levels, of.combination, of.share)


def _constants(seen: Seen, of: Variation) -> ReadOutConstants:
    stored = [(0, light, maps) for light, maps in enumerate(seen.normal)]
    if seen.learned is not None:
        stored.append((1, 0, seen.learned))
    parts = [
        MeasuredPart("", clip, light, maps.appearance(of.levels), maps.speeds, maps.paired)
        for clip, light, maps in stored
    ]
    tops = frame_scores(seen.usual_speeds, of.top_fraction)
    return constants_of(parts, tops, of.top_fraction, SHARES[of.share])


def _scores(maps: Maps, of: Variation, constants: ReadOutConstants) -> npt.NDArray[np.float32]:
    if of.combination == "motion":
        return frame_scores(maps.speeds, of.top_fraction).numpy()
    appearance = maps.appearance(of.levels)
    if of.combination != "sum":
        speeds = maps.speeds if of.combination == "max" else None
        return read(appearance, speeds, maps.paired, constants, of.top_fraction).scores.numpy()
    # The sum is what is shown; here it is to be that of the levels that are scored.
    constants = constants.model_copy(update={"shown": constants.scored})
    summed = read(AnomalyMaps(appearance.scored, appearance.scored), maps.speeds, maps.paired, constants, 0.0).shown
    return frame_scores(summed, of.top_fraction).numpy()


def _shown_as(of: Variation) -> str:
    return "sum" if of.combination == "max" else of.combination


def _pixel_auroc(seen: Seen, of: Variation, constants: ReadOutConstants) -> float:
    synthetic, normal = (_shown(lit[0], of, constants) for lit in (seen.synthetic, seen.normal))
    covered = seen.masks.ravel()
    return _auroc(synthetic[covered], np.concatenate([synthetic[~covered], normal]))


def _shown(maps: Maps, of: Variation, constants: ReadOutConstants) -> npt.NDArray[np.float32]:
    every = torch.zeros_like(maps.every) if of.combination == "motion" else maps.every
    speeds = None if of.combination == "appearance" else maps.speeds
    return read(AnomalyMaps(every, every), speeds, maps.paired, constants, of.top_fraction).shown.flatten().numpy()


def _auroc(anomalous: npt.NDArray[np.float32], normal: npt.NDArray[np.float32]) -> float:
    labels = np.arange(len(anomalous) + len(normal)) < len(anomalous)
    value = frame_auroc(labels, np.concatenate([anomalous, normal]))
    return float("nan") if value is None else value
