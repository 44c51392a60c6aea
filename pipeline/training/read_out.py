"""Measuring the read-out: what normal footage looks like to a fitted method, in its own light and in other light.

Held-out frames are read again and go through the very model that will run; beside them stand variants of each clip in
other light, which changes every few frames. A variant is the same moment, so what differs between the two is what light
does: by that the read-out learns how much of a surprise to take off, and thresholds and p-values have seen a cloud
before it comes. Where little is held out, the frames that were learned from are measured, too: they are less surprising
than unseen ones, but what is known to be normal must not raise an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.config import TrainingSettings
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyModel, Encode
from pipeline.models.card import ChannelConstants, ReadOutConstants
from pipeline.models.float16 import as_float16
from pipeline.models.read_out import read, without_common
from pipeline.models.score import frame_scores
from pipeline.normal_footage import MapStretch, StretchKind
from pipeline.training.features import ClipFeatures
from pipeline.training.measured_parts import MeasuredPart, PartMeter, Shown
from pipeline.training.workers import ALONE, Workers

HeldoutScores = dict[str, tuple[tuple[float, ...], ...]]

_BATCH_FRAMES = 16
_BLUR_CELLS = 4.0
# In heights of the image per second: what moves much slower than this everywhere moves no faster for being twice as
# fast.
_SLOW_PER_S = 0.01
_LEAST_MOTION_SPREAD = 0.25  # in units of what is usual at a cell: where nothing ever moved, a leaf is no event


@dataclass(frozen=True)
class MeasuredReadOut:
    """What a model's card and checkpoint say of its read-out.

    Attributes:
        constants: of both channels.
        speed_scales: as for ``ReadOut``, or None.
        normal_scores: anomaly scores of normal frames by scene: one tuple per part and light, in frame order.
        normal_kinds: what each of these tuples is good for.
        unpaired_scores: what the same frames score without their pairs; empty where there is no motion to miss.
        normal_common: their common surprise.
        maps: of those of these frames that were not learned from, as scores are read off them, by scene.
    """

    constants: ReadOutConstants
    speed_scales: Tensor | None
    normal_scores: HeldoutScores
    normal_kinds: dict[str, tuple[StretchKind, ...]]
    unpaired_scores: HeldoutScores
    normal_common: HeldoutScores
    maps: tuple[tuple[str, MapStretch], ...]


def measure_read_out(
    model: ModelSettings,
    training: TrainingSettings,
    methods: Sequence[AnomalyModel],
    encode: Encode,
    clips: Sequence[ClipFeatures],
    shown: Sequence[Shown],
    device: torch.device,
    progress: Callable[[int, int], None],
    *,
    workers: Workers = ALONE,
) -> MeasuredReadOut | None:
    """Measure on normal footage.

    Args:
        model: settings of the model.
        training: ``frame_step``, ``augmentation.strength`` and ``seed`` are read.
        methods: fitted, on the device: the one that will run, or those that each learned from a part of the footage.
        encode: their encoder, on the device.
        clips: features of the normal footage; their speeds are read.
        shown: which frames are measured, and by which of the methods.
        device: of both.
        progress: called with the frames done and the frames there are.
        workers: that measure together, each what lies on its node.

    Returns:
        What was measured; None at all workers but the first.

    Raises:
        VideoError: a clip cannot be read any more.
    """
    scenes = tuple(sorted({clip.clip.scene for clip in clips}))
    scales = _speed_scales(clips, scenes, workers) if model.motion.enabled else None
    parts = PartMeter(model, training, methods, encode, clips, scales, device).measure(shown, workers, progress)
    top_fraction = model.score.top_fraction
    tops = _motion_tops(clips, scenes, scales, top_fraction, workers)
    return None if parts is None else _result(parts, constants_of(parts, tops, top_fraction), scales, top_fraction)


def _speed_scales(clips: Sequence[ClipFeatures], scenes: Sequence[str], workers: Workers) -> Tensor | None:
    """What speeds are measured in at every cell: their spread there and around, and everywhere; see ``ReadOut``.

    None where no frame has a pair.
    """
    own = workers.share([len(clip) for clip in clips], [clip.holders for clip in clips]) == workers.rank
    by_scene = []
    for scene in scenes:
        count, total, squares = 0, *np.zeros((2, *clips[0].speeds.shape[1:]))
        for clip, is_own in zip(clips, own, strict=True):
            if clip.clip.scene == scene:
                count += int((clip.gaps_s > 0.0).sum())
                if is_own:
                    speeds = clip.speeds[clip.gaps_s > 0.0].astype(np.float64)
                    total, squares = total + speeds.sum(axis=0), squares + (speeds**2).sum(axis=0)
        workers.add(torch.from_numpy(total), torch.from_numpy(squares))
        if count:
            by_scene.append((total / count, squares / count))
        else:
            by_scene.append(None)
    measured = [_spread(*moments) for moments in by_scene if moments is not None]
    if not measured:
        return None
    of_all = np.mean(measured, axis=0)
    scales = [of_all if moments is None else _spread(*moments) for moments in by_scene]
    return torch.from_numpy(np.stack([*scales, of_all]).astype(np.float32))


def _spread(mean: npt.NDArray[np.float64], square: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spread at and around each cell, plus that of the whole image: where nobody has walked yet, somebody may."""
    near, near_square = (ndimage.gaussian_filter(values, _BLUR_CELLS, mode="nearest") for values in (mean, square))
    local = np.sqrt(np.maximum(near_square - near**2, 0.0))
    return local + math.sqrt(max(float(square.mean() - mean.mean() ** 2), 0.0)) + _SLOW_PER_S


def _motion_tops(
    clips: Sequence[ClipFeatures], scenes: Sequence[str], scales: Tensor | None, top_fraction: float, workers: Workers
) -> Tensor:
    """What is read off the speeds in every frame with a pair; nothing is fitted to them, so no frame is held out."""
    if scales is None:
        return torch.empty(0)
    own = workers.share([len(clip) for clip in clips], [clip.holders for clip in clips]) == workers.rank
    tops: dict[int, npt.NDArray[np.float32]] = {}
    paired = [np.flatnonzero(clip.gaps_s > 0.0) for clip in clips]
    for number in map(int, np.flatnonzero(own)):
        clip, of_clip = clips[number], []
        scale = scales[scenes.index(clip.clip.scene)]
        for start in range(0, len(paired[number]), _BATCH_FRAMES):
            speeds = torch.from_numpy(clip.speeds[paired[number][start : start + _BATCH_FRAMES]].astype(np.float32))
            of_clip.append(frame_scores(speeds / scale, top_fraction).numpy())
        tops[number] = np.concatenate(of_clip) if of_clip else np.empty(0, np.float32)
    every = workers.merge(tops, [(len(of_clip),) for of_clip in paired], np.float32)
    return torch.from_numpy(np.concatenate(every))


def constants_of(
    parts: Sequence[MeasuredPart], motion: Tensor, top_fraction: float, common_share: float | None = None
) -> ReadOutConstants:
    """What brings both channels into one unit.

    Args:
        parts: maps of normal frames; those in other light have the frames of one in its own.
        motion: what is read off the speeds of normal frames, shape (N,); empty for a model without motion.
        top_fraction: as for ``frame_scores``.
        common_share: as in ``ReadOutConstants``; None measures it.
    """
    share = _common_share(parts, top_fraction) if common_share is None else common_share
    medians = [part.maps.shown.flatten(1).median(dim=1).values for part in parts]
    shown = [frame_scores(without_common(part.maps.shown, share), top_fraction) for part in parts]
    scored = [frame_scores(without_common(part.maps.scored, share), top_fraction) for part in parts]
    return ReadOutConstants(
        common_share=share,
        common=_channel(parts, medians),
        shown=_channel(parts, shown),
        scored=_channel(parts, scored),
        motion=ChannelConstants(
            centre=float(motion.median()), spread=max(float(motion.std(correction=0)), _LEAST_MOTION_SPREAD)
        )
        if len(motion)
        else None,
    )


def _channel(parts: Sequence[MeasuredPart], values: Sequence[Tensor]) -> ChannelConstants:
    """The median over frames as they are, and the spread in every light: what a cloud does is no event."""
    own = torch.cat([of_part for part, of_part in zip(parts, values, strict=True) if part.light == 0]).double()
    spread = float(torch.cat(list(values)).double().std(correction=0))
    return ChannelConstants(centre=float(own.median()), spread=spread or 1.0)


def _common_share(parts: Sequence[MeasuredPart], top_fraction: float) -> float:
    """By how much what is read off rises with the median when light alone changes.

    The same moment in two lights differs by light alone, in both. Neither change is without noise of its own, so the
    slope is the ratio of their spreads (the reduced major axis), where they rise together at all.
    """
    own = {(part.clip, part.first): part for part in parts if part.kind == "own" and not part.light}
    medians, tops = [], []
    for part in parts:
        if part.light and part.maps.scored.shape[1:].numel() > 1:
            pair = part.maps.scored, own[part.clip, part.first].maps.scored
            medians.append(torch.sub(*(maps.flatten(1).median(dim=1).values for maps in pair)))
            tops.append(torch.sub(*(frame_scores(maps, top_fraction) for maps in pair)))
    if not medians:
        return 0.0
    of_light, of_tops = torch.cat(medians).double(), torch.cat(tops).double()
    if float((of_light * of_tops).sum()) <= 0.0:
        return 0.0
    return min(1.0, float((of_tops.square().sum() / of_light.square().sum()).sqrt()))


def _result(
    parts: Sequence[MeasuredPart], constants: ReadOutConstants, scales: Tensor | None, top_fraction: float
) -> MeasuredReadOut:
    normal: dict[str, list[tuple[float, ...]]] = {}
    unpaired: dict[str, list[tuple[float, ...]]] = {}
    common: dict[str, list[tuple[float, ...]]] = {}
    kinds: dict[str, list[StretchKind]] = {}
    maps = []
    for part in parts:
        speeds = None if scales is None else part.speeds
        reading = read(part.maps, speeds, part.paired, constants, top_fraction)
        normal.setdefault(part.scene, []).append(tuple(reading.scores.tolist()))
        common.setdefault(part.scene, []).append(tuple(reading.common_surprise.tolist()))
        kinds.setdefault(part.scene, []).append(part.kind)
        alone = None
        if scales is not None:
            alone = read(part.maps, None, part.paired, constants, top_fraction)
            unpaired.setdefault(part.scene, []).append(tuple(alone.scores.tolist()))
        if part.kind != "learned":  # which proves nothing, and may be long
            unpaired_maps = None if alone is None else as_float16(alone.scored)
            maps.append((part.scene, MapStretch(part.kind, part.fps, as_float16(reading.scored), unpaired_maps)))
    by_scene = ({scene: tuple(of_parts) for scene, of_parts in scores.items()} for scores in (normal, unpaired, common))
    normal_scores, unpaired_scores, normal_common = by_scene
    normal_kinds = {scene: tuple(of_parts) for scene, of_parts in kinds.items()}
    return MeasuredReadOut(constants, scales, normal_scores, normal_kinds, unpaired_scores, normal_common, tuple(maps))
