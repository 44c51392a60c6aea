"""Measuring the read-out: what normal footage looks like to a fitted method, in its own light and in other light.

Held-out frames are read again and go through the very model that will run; beside them stand variants of each clip in
other light, which changes every few frames. A variant is the same moment, so what differs between the two is what light
does: by that the read-out learns how much of a surprise to take off, and thresholds and p-values have seen a cloud
before it comes. Where little is held out, the frames that were learned from are measured, too: they are less surprising
than unseen ones, but what is known to be normal must not raise an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.config import TrainingSettings
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyMaps, AnomalyModel, Encode
from pipeline.models.card import ChannelConstants, ReadOutConstants
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.models.read_out import read, without_common
from pipeline.models.score import frame_scores
from pipeline.training.augmentation import PhotometricChange, change_pair, draw_change
from pipeline.training.features import ClipFeatures, batches
from pipeline.training.workers import ALONE, Workers
from pipeline.types import stack_previous
from pipeline.video.source import open_source

HeldoutScores = dict[str, tuple[tuple[float, ...], ...]]

LIGHTS = 2
"""Variants of every held-out clip."""

ENOUGH_S = 30.0
"""Of held-out footage of a scene: with less its rarer moments are not among it."""

_BATCH_FRAMES = 16
_DRAWS = 3  # tells the seeds of these variants from those of the features' and of a training's steps
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
        normal_scores: anomaly scores of held-out normal frames by scene: one tuple per clip and light, in frame order.
        unpaired_scores: what the same frames score without their pairs; empty where there is no motion to miss.
        normal_common: their common surprise.
    """

    constants: ReadOutConstants
    speed_scales: Tensor | None
    normal_scores: HeldoutScores
    unpaired_scores: HeldoutScores
    normal_common: HeldoutScores


@dataclass(frozen=True)
class MeasuredPart:
    """Maps of normal frames of one clip in one light; on the CPU.

    Attributes:
        scene: of the clip.
        clip: number of the clip.
        light: 0 is its own.
        maps: of appearance, B frames.
        speeds: in units of what is usual, float32, shape (B, h', w').
        paired: which frames have a pair, bool, shape (B,).
    """

    scene: str
    clip: int
    light: int
    maps: AnomalyMaps
    speeds: Tensor
    paired: Tensor


def measure_read_out(
    model: ModelSettings,
    training: TrainingSettings,
    method: AnomalyModel,
    encode: Encode,
    clips: Sequence[ClipFeatures],
    heldout: Sequence[range],
    device: torch.device,
    progress: Callable[[int, int], None],
    *,
    learned: bool = True,
    workers: Workers = ALONE,
) -> MeasuredReadOut | None:
    """Measure on normal footage.

    Args:
        model: settings of the model.
        training: ``frame_step``, ``augmentation.strength`` and ``seed`` are read.
        method: fitted, on the device.
        encode: its encoder, on the device.
        clips: features of the normal footage; their speeds are read.
        heldout: per clip, its held-out frames.
        device: of both.
        progress: called with the frames done and the frames there are.
        learned: whether frames that were learned from are measured, too, where little is held out.
        workers: that measure together, each what lies on its node.

    Returns:
        What was measured; None at all workers but the first.

    Raises:
        VideoError: a clip cannot be read any more.
    """
    scenes = tuple(sorted({clip.clip.scene for clip in clips}))
    stretches = _stretches(clips, heldout, learned)
    scales = _speed_scales(clips, scenes, workers) if model.motion.enabled else None
    measured = _Measured(model, training, method, encode, scenes, scales, device)
    wanted = [(number, frames, light) for number, frames, lights in stretches for light in lights]
    readers = workers.holders([Path(clip.clip.url).exists() for clip in clips])
    owners = workers.share([len(frames) for _, frames, _ in wanted], [readers[number] for number, _, _ in wanted])
    total = sum(len(frames) for (_, frames, _), owner in zip(wanted, owners, strict=True) if owner == workers.rank)

    def measure() -> dict[int, MeasuredPart]:
        own: dict[int, MeasuredPart] = {}
        done = 0
        for at in map(int, np.flatnonzero(owners == workers.rank)):
            number, frames, light = wanted[at]
            own[at] = measured.part(number, clips[number], frames, light)
            done += len(frames)
            progress(done, total)
        return own

    own = workers.together(measure)
    parts = [
        _collected(own.get(at), clips[number].clip.scene, number, light, int(owners[at]), workers)
        for at, (number, _, light) in enumerate(wanted)
    ]
    top_fraction = model.score.top_fraction
    tops = _motion_tops(clips, scenes, scales, top_fraction, workers)
    every = [part for part in parts if part is not None]
    return _result(every, constants_of(every, tops, top_fraction), scales, top_fraction) if workers.is_first else None


def _collected(
    part: MeasuredPart | None, scene: str, clip: int, light: int, owner: int, workers: Workers
) -> MeasuredPart | None:
    """A part, whoever measured it, at the first worker; None at all others."""
    own = (None,) * 4 if part is None else (part.maps.shown, part.maps.scored, part.speeds, part.paired)
    found = [workers.collect(tensor, owner) for tensor in own]
    if not workers.is_first:
        return None
    shown, scored, speeds, paired = (tensor for tensor in found if tensor is not None)
    return MeasuredPart(scene, clip, light, AnomalyMaps(shown, scored), speeds, paired)


def _stretches(
    clips: Sequence[ClipFeatures], heldout: Sequence[range], learned: bool
) -> list[tuple[int, range, range]]:
    """What is measured: number of the clip, frames of it, and the lights to see them in."""
    heldout_s: dict[str, float] = {}
    for clip, frames in zip(clips, heldout, strict=True):
        heldout_s[clip.clip.scene] = heldout_s.get(clip.clip.scene, 0.0) + len(frames) / clip.fps
    found = []
    for number, (clip, frames) in enumerate(zip(clips, heldout, strict=True)):
        if frames:
            found.append((number, frames, range(1 + LIGHTS)))
        others = range(frames.start) if frames else range(len(clip))
        if learned and others and heldout_s[clip.clip.scene] < ENOUGH_S:
            found.append((number, others, range(1)))
    return found


class _Measured:
    """Runs held-out frames through the model; arguments as for ``measure_read_out``."""

    def __init__(
        self,
        model: ModelSettings,
        training: TrainingSettings,
        method: AnomalyModel,
        encode: Encode,
        scenes: Sequence[str],
        scales: Tensor | None,
        device: torch.device,
    ) -> None:
        self._model, self._training = model, training
        self._method, self._encode = method, encode
        self._row_of = {scene: row for row, scene in enumerate(scenes)}
        self._scales, self._device = scales, device

    def part(self, number: int, clip: ClipFeatures, frames: range, light: int) -> MeasuredPart:
        """Maps of some frames of a clip, in its own light (0) or in another."""
        found = zip(*(self._batch(clip, batch) for batch in self._batches(number, clip, frames, light)), strict=True)
        shown, scored, speeds, paired = (torch.cat(tensors) for tensors in found)
        return MeasuredPart(clip.clip.scene, number, light, AnomalyMaps(shown, scored), speeds, paired)

    @torch.inference_mode()
    def _batch(self, clip: ClipFeatures, batch: tuple[Tensor, Pairs]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, pairs = batch[0].to(self._device), batch[1].to(self._device)
        rows = self._method.scene_rows([clip.clip.scene] * len(images)).to(self._device)
        maps = self._method.anomaly_maps(images, self._encode, rows)
        speeds = torch.zeros(len(images), 1, 1)
        if self._scales is not None:
            speeds = speed_maps(images, pairs).cpu() / self._scales[self._row_of[clip.clip.scene]]
        return maps.shown.cpu(), maps.scored.cpu(), speeds, (pairs.gaps_s > 0.0).cpu()

    def _batches(self, number: int, clip: ClipFeatures, frames: range, light: int) -> Iterator[tuple[Tensor, Pairs]]:
        """Frames of a clip as they are read; every batch in a light of its own, but for light 0."""
        strength, size_px = self._training.augmentation.strength, self._model.image_size_px
        with open_source(
            clip.clip.url,
            size_px,
            gap_s=self._model.motion.gap_s,
            name=clip.clip.name,
            image_fps=clip.clip.image_fps,
        ) as source:
            step = self._training.frame_step
            read = islice(source, frames.start * step, (frames.stop - 1) * step + 1, step)
            for index, batch in enumerate(batches(read, _BATCH_FRAMES)):
                images = np.stack([frame.image for frame in batch])
                previous_luma, gaps_s = stack_previous([frame.previous for frame in batch], images)
                if light:
                    random = np.random.default_rng((self._training.seed, _DRAWS, number, light, index))
                    change = draw_change(size_px, strength, random)
                    images, previous_luma = _changed(change, images, previous_luma, gaps_s, random)
                yield torch.from_numpy(images), Pairs.of(previous_luma, gaps_s)


def _changed(
    change: PhotometricChange,
    images: npt.NDArray[np.uint8],
    previous_luma: npt.NDArray[np.uint8],
    gaps_s: npt.NDArray[np.float32],
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    varied, varied_luma = np.empty_like(images), np.zeros_like(previous_luma)
    for at, image in enumerate(images):
        before = previous_luma[at] if gaps_s[at] > 0.0 else None
        varied[at], found = change_pair(change, image, before, random)
        if found is not None:
            varied_luma[at] = found
    return varied, varied_luma


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
        parts: maps of normal frames; the first of a clip in its own light (0) has the frames of those in other light.
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
    own = {part.clip: part for part in reversed(parts) if part.light == 0}  # the first of a clip is held out
    medians, tops = [], []
    for part in parts:
        if part.light and part.maps.scored.shape[1:].numel() > 1:
            pair = part.maps.scored, own[part.clip].maps.scored
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
    for part in parts:
        speeds = None if scales is None else part.speeds
        reading = read(part.maps, speeds, part.paired, constants, top_fraction)
        normal.setdefault(part.scene, []).append(tuple(reading.scores.tolist()))
        common.setdefault(part.scene, []).append(tuple(reading.common_surprise.tolist()))
        if scales is not None:
            alone = read(part.maps, None, part.paired, constants, top_fraction)
            unpaired.setdefault(part.scene, []).append(tuple(alone.scores.tolist()))
    kept = ({scene: tuple(of_clips) for scene, of_clips in scores.items()} for scores in (normal, unpaired, common))
    return MeasuredReadOut(constants, scales, *kept)
