"""Which read-out tells synthetic anomalies from normal footage best: a choice that no label of a test has a part in.

Usage: python -m benchmarks.read_out [--sets ped2,avenue,carpark,bag] [--seed 0] [--models FOLDER]
Takes models that ``python -m benchmarks.accuracy --out FOLDER`` has trained, and reads the normal footage again that
was held out from them: as it is, with things pasted into it (``pipeline/training/synthetic_anomalies``), and both in
other light. Each model runs once; read-outs are then compared on what is stored, each with constants of its own,
measured as in training. Frames without a pair are left out.

Prints a table per set and of their mean: the present read-out and those that differ from it in one thing, then the
best. Columns are AUROCs: of frames with something in them against frames as they are; the same by what is pasted, and
of the smaller half of it; the same where half of either are in other light; and of cells. The last line is JSON, with
all read-outs, which is kept in benchmarks/results/ as well. A read-out is chosen by the mean of the first column.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.accuracy_sets import SETS, AccuracySet
from benchmarks.machine import describe, store
from benchmarks.read_out_choice import (
    Maps,
    Numbers,
    Seen,
    Variation,
    best,
    compare,
    mean_of,
    neighbours,
    table,
    variations,
)
from pipeline.datasets.base import Clip, Dataset
from pipeline.datasets.detect import open_dataset
from pipeline.datasets.image_rates import with_image_fps
from pipeline.errors import BadInputError, CflowError, CheckpointError
from pipeline.inference.loading import load_anomaly_model
from pipeline.models.anomaly_model import rows_of
from pipeline.models.card import ModelCard, read_card
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.models.read_out import read_speed_scales
from pipeline.training.augmentation import vary_batch
from pipeline.training.holdout import Part, count_frames, split_clips
from pipeline.training.measured_parts import ENOUGH_S
from pipeline.training.synthetic_anomalies import KINDS, Kind, Thing, draw_thing, paste_things
from pipeline.types import stack_previous
from pipeline.video.source import DecodedFrame, open_source

_BATCH_FRAMES = 16
_MOST_FRAMES = 100  # of held-out, and of learned, normal footage of a set; evenly spread
_USUAL_EVERY = 8  # frames: of these speeds are measured in all normal footage
_STRETCH_S = 3.0  # of footage into which one thing is pasted
_FRAMES_OF_A_THING = 3
THINGS = 48
"""Pasted into each set."""


@dataclass(frozen=True)
class Stretch:
    """Some T frames of one clip and their pairs.

    Attributes:
        scene: of the clip.
        fps: frames per second.
        images: uint8 (T, H, W, 3).
        previous_luma: uint8 (T, H, W).
        gaps_s: float32 (T,), none 0.
    """

    scene: str
    fps: float
    images: npt.NDArray[np.uint8]
    previous_luma: npt.NDArray[np.uint8]
    gaps_s: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, frames: slice | Sequence[int]) -> Stretch:
        """Some of the frames."""
        arrays = self.images[frames], self.previous_luma[frames], self.gaps_s[frames]
        return Stretch(self.scene, self.fps, *arrays)

    def in_other_light(self, strength: float, seed: tuple[int, ...]) -> Stretch:
        """Every frame in a light of its own."""
        seeds = [(*seed, number) for number in range(len(self))]
        varied = vary_batch(self.images, self.previous_luma, self.gaps_s, strength, seeds)
        return Stretch(self.scene, self.fps, *varied, self.gaps_s)


class Model:
    """A trained model on the CPU, and the normal footage that it knows.

    Args:
        folder: of the checkpoint.
        dataset: that it was trained on.

    Raises:
        CheckpointError: the checkpoint is damaged, or of a model that makes no maps of motion.
        VideoError: footage cannot be read any more.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.card = read_card(folder)
        self.training = self.card.provenance.training
        score = self.card.model.score.model_copy(update={"levels": "finest"})  # the map of all is shown, so both come
        as_finest = self.card.model_copy(update={"model": self.card.model.model_copy(update={"score": score})})
        encoder, self._method = load_anomaly_model(folder, as_finest, device=torch.device("cpu"))
        self._encode = encoder.for_inference()
        scales = read_speed_scales(folder)
        if scales is None:
            raise CheckpointError(f"{folder}: expected a model with model.motion.enabled, got one without")
        self._scales = scales
        self._row_of = {scene: row for row, scene in enumerate(self.card.scenes)}
        self._clips = with_image_fps(dataset.train, lambda _: self.training.image_fps)

    def seen(self, things: int, seed: int) -> Seen:
        """Run it on what was held out, as it is and with things pasted.

        Args:
            things: how many.
            seed: of what is drawn.
        """
        lengths, usual = zip(*map(self._usual_speeds, self._clips), strict=True)
        rates = [self.card.normal_fps] * len(lengths)
        split = split_clips([clip.scene for clip in self._clips], lengths, rates, self.training.holdout_fraction)
        heldout = self._stretches(split.heldout)
        enough = count_frames(split.heldout) >= ENOUGH_S * self.card.normal_fps
        learned = [] if enough else self._stretches(split.train)
        random = np.random.default_rng(seed)
        found: list[tuple[Stretch, Tensor, str]] = []
        for number in range(things):
            kind = KINDS[number % len(KINDS)]
            found.append((*self._pasted(heldout[random.integers(len(heldout))], kind, random), kind))
        return Seen(
            normal=self._in_both_lights(heldout, seed),
            learned=Maps.joined([self._maps(of) for of in learned]) if learned else None,
            usual_speeds=torch.cat(usual),
            synthetic=self._in_both_lights([stretch for stretch, _, _ in found], seed + 1),
            kinds=np.repeat([kind for _, _, kind in found], [len(stretch) for stretch, _, _ in found]),
            masks=torch.cat([masks for _, masks, _ in found]).numpy(),
        )

    def _frames(self, clip: Clip) -> Iterator[DecodedFrame]:
        model = self.card.model
        gap_s, size_px = model.motion.gap_s, model.image_size_px
        with open_source(clip.url, size_px, gap_s=gap_s, name=clip.name, image_fps=clip.image_fps) as source:
            yield from islice(source, 0, None, self.training.frame_step)

    def _stretch(self, clip: Clip, frames: Sequence[DecodedFrame]) -> Stretch:
        """Of those frames that have a pair."""
        images = np.stack([frame.image for frame in frames])
        whole = Stretch(clip.scene, self.card.normal_fps, images, *stack_previous([f.previous for f in frames], images))
        return whole.part(np.flatnonzero(whole.gaps_s > 0.0).tolist())

    def _usual_speeds(self, clip: Clip) -> tuple[int, Tensor]:
        """Frames of a clip, and speeds in some of them, in units of what is usual."""
        length, waiting, speeds = 0, [], []
        for frame in self._frames(clip):
            if length % _USUAL_EVERY == 0 and frame.previous is not None:
                waiting.append(frame)
            length += 1
            if len(waiting) == _BATCH_FRAMES:
                speeds.append(self._speeds(self._stretch(clip, waiting)))
                waiting = []
        if waiting:
            speeds.append(self._speeds(self._stretch(clip, waiting)))
        return length, torch.cat([torch.empty(0, *self._scales.shape[1:]), *speeds])

    def _stretches(self, parts: Sequence[Part]) -> list[Stretch]:
        """Evenly spread frames of some parts of clips."""
        step = math.ceil(count_frames(parts) / _MOST_FRAMES)
        fps = self.card.normal_fps / step
        count = max(2, round(_STRETCH_S * fps))
        found = []
        for number, frames in parts:
            clip = self._clips[number]
            read = list(islice(self._frames(clip), frames.start, frames.stop, step))
            whole = self._stretch(clip, read)
            arrays = whole.images, whole.previous_luma, whole.gaps_s
            whole = Stretch(whole.scene, fps, *arrays)
            found += [whole.part(slice(start, start + count)) for start in range(0, len(whole), count)]
        return found

    def _pasted(self, stretch: Stretch, kind: Kind, random: np.random.Generator) -> tuple[Stretch, Tensor]:
        """A few frames with something of a kind in them, and the cells that it covers, bool (T, h, w)."""
        arrays = stretch.images, stretch.previous_luma, stretch.gaps_s
        images, previous_luma, masks = paste_things(*arrays, stretch.fps, [_thing_of(kind, stretch, random)])
        shown = np.flatnonzero(masks.any(axis=(1, 2)))
        spread = np.linspace(0, len(shown) - 1, min(_FRAMES_OF_A_THING, len(shown)))
        chosen = shown[spread.round().astype(int)].tolist()
        with_thing = Stretch(stretch.scene, stretch.fps, images, previous_luma, stretch.gaps_s).part(chosen)
        height, width = self.card.model.image_size_px
        stride = self.card.levels[0].stride
        covered = adaptive_avg_pool2d(torch.from_numpy(masks[chosen]).float(), (height // stride, width // stride))
        return with_thing, covered >= 0.5

    def _in_both_lights(self, stretches: Sequence[Stretch], seed: int) -> tuple[Maps, Maps]:
        strength = self.training.augmentation.strength
        others = [of.in_other_light(strength, (seed, number)) for number, of in enumerate(stretches)]
        own, other = (Maps.joined([self._maps(of) for of in lit]) for lit in (stretches, others))
        return own, other

    def _maps(self, stretch: Stretch) -> Maps:
        starts = range(0, len(stretch), _BATCH_FRAMES)
        return Maps.joined([self._batch(stretch.part(slice(at, at + _BATCH_FRAMES))) for at in starts])

    @torch.inference_mode()
    def _batch(self, stretch: Stretch) -> Maps:
        rows = self._method.scene_rows([stretch.scene] * len(stretch))
        maps = self._method.anomaly_maps(torch.from_numpy(stretch.images), self._encode, rows)
        return Maps(maps.shown, maps.scored, self._speeds(stretch))

    @torch.inference_mode()
    def _speeds(self, stretch: Stretch) -> Tensor:
        speeds = speed_maps(torch.from_numpy(stretch.images), Pairs.of(stretch.previous_luma, stretch.gaps_s))
        return speeds / self._scales[rows_of([stretch.scene], self._row_of)]


def _thing_of(kind: Kind, stretch: Stretch, random: np.random.Generator) -> Thing:
    while True:
        thing = draw_thing(stretch.images, stretch.fps, random)
        if thing.kind == kind:
            return thing


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="ped2,avenue,carpark,bag", help="of those of benchmarks.accuracy")
    parser.add_argument("--seed", type=int, default=0, help="of the models, and of what is pasted")
    parser.add_argument("--models", type=Path, default=Path("runs/accuracy"), help="of benchmarks.accuracy")
    arguments = parser.parse_args()
    by_name = {of.name: of for of in SETS}
    found: dict[str, dict[Variation, Numbers]] = {}
    present = None
    try:
        for name in arguments.sets.split(","):
            if name not in by_name:
                raise BadInputError(f"--sets: expected some of {','.join(by_name)}, got {name!r}")
            model = trained_model(by_name[name], arguments.models, arguments.seed)
            present = present or present_read_out(model.card)
            found[name] = compare(model.seen(THINGS, arguments.seed), variations(present))
            print(f"{name} is compared", file=sys.stderr, flush=True)
    except CflowError as error:
        sys.exit(f"error: {error}")
    assert present is not None  # there is a name, if only an empty one
    report(found, present)


def trained_model(of: AccuracySet, models: Path, seed: int) -> Model:
    """A set's model as ``benchmarks.accuracy`` left it.

    Raises:
        CflowError: there is none, or no footage.
    """
    place = models / of.name
    dataset = open_dataset(of.footage(place / "footage"), need="train")
    return Model(place / f"seed-{seed}" / "model", dataset)


def report(found: Mapping[str, Mapping[Variation, Numbers]], present: Variation) -> None:
    """Print tables and the choice; keep all numbers.

    Args:
        found: by set.
        present: what is used so far.
    """
    mean = mean_of(list(found.values()))
    chosen = best(mean, present)
    best_of = {column: max(mean, key=lambda of: mean[of][column]) for column in ("frame", "any light", "pixel")}
    rows = list(dict.fromkeys([*neighbours(present, list(mean)), chosen, *best_of.values()]))
    by_name = {**found, "mean": mean}
    for name, numbers in by_name.items():
        print(f"{name}\n{table(numbers, rows)}\n")
    print(f"chosen: {chosen}; best by column: {'; '.join(f'{column}: {of}' for column, of in best_of.items())}")
    kept = {
        name: {str(of): {column: round(value, 4) for column, value in by.items()} for of, by in numbers.items()}
        for name, numbers in by_name.items()
    }
    result = {"present": str(present), "chosen": str(chosen), "things": THINGS, "found": kept}
    store({"benchmark": "read-out", **describe(), **result})


def present_read_out(card: ModelCard) -> Variation:
    """What a model reads its scores off by."""
    return Variation(card.model.score.top_fraction, card.model.score.levels, "max", "learned")


if __name__ == "__main__":
    main()
