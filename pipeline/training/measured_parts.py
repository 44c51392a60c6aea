"""Normal frames through fitted models, as they are and in other light: maps, before anything is read off them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.config import TrainingSettings
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyMaps, AnomalyModel, Encode
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.normal_footage import StretchKind
from pipeline.training.augmentation import PhotometricChange, change_pair, draw_change
from pipeline.training.features import ClipFeatures, batches
from pipeline.training.holdout import Part, Split, count_frames
from pipeline.training.workers import Workers
from pipeline.types import stack_previous
from pipeline.video.source import DecodedFrame, open_source

LIGHTS = 2
"""Other lights in which held-out frames are seen."""

ENOUGH_S = 30.0
"""Of held-out footage of a scene: with less its rarer moments are not among it."""

_BATCH_FRAMES = 16
_DRAWS = 3  # tells the seeds of these variants from those of the features' and of a training's steps


@dataclass(frozen=True)
class Shown:
    """Normal frames that are to be measured.

    Attributes:
        method: number of the fitted model that sees them.
        part: the frames.
        light: 0 is their own.
        kind: what they are good for.
    """

    method: int
    part: Part
    light: int
    kind: StretchKind


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
        first: number of the first of the frames in the clip.
        kind: what the frames are good for.
        fps: frames per second.
    """

    scene: str
    clip: int
    light: int
    maps: AnomalyMaps
    speeds: Tensor
    paired: Tensor
    first: int = 0
    kind: StretchKind = "own"
    fps: float = 1.0


def shown_once(clips: Sequence[ClipFeatures], split: Split, *, learned: bool = True) -> list[Shown]:
    """What one model is measured on: what was held out, in every light; and little of that, what it learned from.

    Args:
        clips: features of the normal footage.
        split: of it.
        learned: whether what was learned from is seen where little was held out.
    """
    heldout_s: dict[str, float] = {}
    for clip, frames in split.heldout:
        scene = clips[clip].clip.scene
        heldout_s[scene] = heldout_s.get(scene, 0.0) + len(frames) / clips[clip].fps
    found = [in_light for part in split.heldout for in_light in _in_lights(0, part)]
    if learned:
        short = [part for part in split.train if heldout_s.get(clips[part.clip].clip.scene, 0.0) < ENOUGH_S]
        found += [Shown(0, part, 0, "learned") for part in short]
    return found


def shown_crosswise(clips: Sequence[ClipFeatures], splits: Sequence[Split], fraction: float) -> list[Shown]:
    """What models of cross-fitted parts are measured on: each on what it has not seen, some of it in every light.

    Args:
        clips: features of the normal footage.
        splits: of it, one for each model.
        fraction: of every scene's frames that are seen in other light.
    """
    every = [(method, part) for method, split in enumerate(splits) for part in split.heldout]
    every.sort(key=lambda one: (one[1].clip, one[1].frames.start))
    found: list[Shown] = []
    for scene in dict.fromkeys(clip.clip.scene for clip in clips):
        of_scene = [one for one in every if clips[one[1].clip].clip.scene == scene]
        wanted, done, varied = fraction * count_frames([part for _, part in of_scene]), 0, 0
        for method, part in of_scene:
            done += len(part.frames)
            in_every_light = varied < fraction * done and varied < wanted  # so they are spread over all of it
            varied += len(part.frames) if in_every_light else 0
            found += _in_lights(method, part) if in_every_light else [Shown(method, part, 0, "own")]
    return found


def _in_lights(method: int, part: Part) -> list[Shown]:
    return [Shown(method, part, light, "light" if light else "own") for light in range(1 + LIGHTS)]


class PartMeter:
    """Runs normal frames through fitted models.

    Args:
        model: settings of the model.
        training: ``frame_step``, ``augmentation.strength`` and ``seed`` are read.
        methods: fitted, on the device.
        encode: their encoder, on the device.
        clips: features of the normal footage.
        scales: what speeds are measured in, by scene; None for a model without motion.
        device: of all of it.
    """

    def __init__(
        self,
        model: ModelSettings,
        training: TrainingSettings,
        methods: Sequence[AnomalyModel],
        encode: Encode,
        clips: Sequence[ClipFeatures],
        scales: Tensor | None,
        device: torch.device,
    ) -> None:
        self._model, self._training = model, training
        self._methods, self._encode = methods, encode
        self._clips = clips
        self._row_of = {scene: row for row, scene in enumerate(sorted({clip.clip.scene for clip in clips}))}
        self._scales, self._device = scales, device

    def measure(
        self, shown: Sequence[Shown], workers: Workers, progress: Callable[[int, int], None]
    ) -> list[MeasuredPart] | None:
        """Maps of frames, in the order in which they are given.

        Args:
            shown: the frames.
            workers: that measure together, each what lies on its node.
            progress: called with the frames done and the frames there are of this worker's.

        Returns:
            None at all workers but the first.

        Raises:
            VideoError: a clip cannot be read any more.
        """
        groups: dict[tuple[int, int, int, str], list[int]] = {}  # each is one pass over a clip
        for number, one in enumerate(shown):
            groups.setdefault((one.method, one.part.clip, one.light, one.kind), []).append(number)
        passes = [sorted(group, key=lambda number: shown[number].part.frames.start) for group in groups.values()]
        frames = [count_frames([shown[number].part for number in group]) for group in passes]
        readers = workers.holders([Path(clip.clip.url).exists() for clip in self._clips])
        owners = workers.share(frames, [readers[shown[group[0]].part.clip] for group in passes])
        total = sum(count for count, owner in zip(frames, owners, strict=True) if owner == workers.rank)

        def measured() -> dict[int, MeasuredPart]:
            own: dict[int, MeasuredPart] = {}
            done = 0
            for at in map(int, np.flatnonzero(owners == workers.rank)):
                read = self._pass([shown[number] for number in passes[at]])
                for number, own[number] in zip(passes[at], read, strict=True):
                    done += len(shown[number].part.frames)
                    progress(done, total)
            return own

        own = workers.together(measured)
        owner_of = {number: int(owner) for group, owner in zip(passes, owners, strict=True) for number in group}
        parts = [self._collected(own.get(at), one, owner_of[at], workers) for at, one in enumerate(shown)]
        return [part for part in parts if part is not None] if workers.is_first else None

    def _collected(self, part: MeasuredPart | None, shown: Shown, owner: int, workers: Workers) -> MeasuredPart | None:
        """A part, whoever measured it, at the first worker; None at all others."""
        own = (None,) * 4 if part is None else (part.maps.shown, part.maps.scored, part.speeds, part.paired)
        found = [workers.collect(tensor, owner) for tensor in own]
        if not workers.is_first:
            return None
        return self._part(shown, *(tensor for tensor in found if tensor is not None))

    def _part(self, shown: Shown, maps: Tensor, scored: Tensor, speeds: Tensor, paired: Tensor) -> MeasuredPart:
        clip, frames = shown.part
        of_clip = self._clips[clip]
        return MeasuredPart(
            of_clip.clip.scene,
            clip,
            shown.light,
            AnomalyMaps(maps, scored),
            speeds,
            paired,
            frames.start,
            shown.kind,
            of_clip.fps,
        )

    def _pass(self, shown: Sequence[Shown]) -> Iterator[MeasuredPart]:
        """Maps of parts of one clip, which is read once."""
        clip = self._clips[shown[0].part.clip]
        with open_source(
            clip.clip.url,
            self._model.image_size_px,
            gap_s=self._model.motion.gap_s,
            name=clip.clip.name,
            image_fps=clip.clip.image_fps,
        ) as source:
            step, done = self._training.frame_step, 0
            for one in shown:
                start, stop = one.part.frames.start * step, (one.part.frames.stop - 1) * step + 1
                read = islice(source, start - done, stop - done, step)
                done = stop
                found = zip(*(self._batch(clip, one.method, batch) for batch in self._batches(one, read)), strict=True)
                yield self._part(one, *(torch.cat(tensors) for tensors in found))

    @torch.inference_mode()
    def _batch(
        self, clip: ClipFeatures, method: int, batch: tuple[Tensor, Pairs]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, pairs = batch[0].to(self._device), batch[1].to(self._device)
        model = self._methods[method]
        rows = model.scene_rows([clip.clip.scene] * len(images)).to(self._device)
        maps = model.anomaly_maps(images, self._encode, rows)
        speeds = torch.zeros(len(images), 1, 1)
        if self._scales is not None:
            speeds = speed_maps(images, pairs).cpu() / self._scales[self._row_of[clip.clip.scene]]
        return maps.shown.cpu(), maps.scored.cpu(), speeds, (pairs.gaps_s > 0.0).cpu()

    def _batches(self, shown: Shown, frames: Iterator[DecodedFrame]) -> Iterator[tuple[Tensor, Pairs]]:
        """Frames as they are read; every batch in a light of its own, but for light 0."""
        strength, size_px = self._training.augmentation.strength, self._model.image_size_px
        clip, first = shown.part.clip, shown.part.frames.start
        for index, batch in enumerate(batches(frames, _BATCH_FRAMES)):
            images = np.stack([frame.image for frame in batch])
            previous_luma, gaps_s = stack_previous([frame.previous for frame in batch], images)
            if shown.light:
                random = np.random.default_rng((self._training.seed, _DRAWS, clip, shown.light, first, index))
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
