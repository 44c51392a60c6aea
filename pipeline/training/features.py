"""Features of the normal footage, computed once: the frozen encoder runs one time, the flows read many times.

Every clip becomes one file per level in the training folder, float16, shape (frames, positions, D), memory-mapped when
read: small data sets live in the page cache, large ones on the disk, by the same code. A clip counts when all of its
files are complete, so an interrupted extraction goes on with the next clip. Beside them lie a few small pictures of
the clip, by which a live camera that was moved is noticed later.

With ``training.augmentation`` every frame is kept in several variants, each in files of its own: the frame as it is,
and the same moment in other light (``training/augmentation``). What is measured is measured on frames as they are.

One frame takes 2 bytes x (sum over levels of positions x D): 0.23 MB for MobileNetV2 at 256 x 384 (0.6 GB for Ped2's
2,550 frames), 1.8 MB for WideResNet-50 at 256 x 256, where ``training.frame_step`` keeps the folder small. Each variant
takes as much again.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline.config import TrainingSettings
from pipeline.datasets.base import Clip
from pipeline.errors import DatasetError, RunError, VideoError
from pipeline.files import naming, save_array, sync, write_whole
from pipeline.model_settings import ModelSettings
from pipeline.models.encoder import Encoder
from pipeline.models.float16 import as_float16
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.training.augmentation import vary_pair
from pipeline.training.scene_references import SceneSampler
from pipeline.types import stack_previous
from pipeline.video.source import DecodedFrame, open_source
from pipeline.video.stated import actual_fps

_LOGGER = logging.getLogger(__name__)

LEAST_FRAMES = 2
"""Frames that a clip must have: one to learn from, and one to hold out."""

_BATCH_FRAMES = 8
_FPS_OF_IMAGES = 25.0  # a source that states no rate; only the smoothing of held-out scores depends on it
_SPARE_BYTES = 2**28
_DRAWS = 2  # tells the seeds of variants from others


@dataclass(frozen=True)
class FeatureSpec:
    """What is computed of every frame and kept.

    Attributes:
        names: of the arrays, and of their files.
        shapes: (positions, D) of each.
        encode: from images, uint8 (B, H, W, 3), to one float16 array (B, positions, D) per name.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    encode: Callable[[npt.NDArray[np.uint8]], list[npt.NDArray[np.float16]]]

    @property
    def bytes_per_frame(self) -> int:
        """Room that one frame takes."""
        return sum(2 * positions * dims for positions, dims in self.shapes)


@dataclass(frozen=True)
class ClipFeatures:
    """Features of one clip.

    Attributes:
        clip: which one.
        fps: frames per second of what is stored, that is after ``frame_step``.
        levels: one array per level, finest first (or whatever a ``FeatureSpec`` names): float16, shape (frames,
            positions, D), memory-mapped.
        varied: the same of every changed variant of the frames.
        gray_images: of the scene, as a ``SceneSampler`` kept them: float32, shape (n, h, w), memory-mapped.
        gaps_s: float32, shape (frames,): seconds between the frames of each one's pair; 0 for a frame without one.
        speeds: of what moved, as ``speed_maps`` gives them: float16, shape (frames, h', w'), memory-mapped.
        holders: ranks of the workers that have its files. At others all but clip, rate and gaps is NaN, and no memory.
    """

    clip: Clip
    fps: float
    levels: tuple[npt.NDArray[np.float16], ...]
    varied: tuple[tuple[npt.NDArray[np.float16], ...], ...]
    gray_images: npt.NDArray[np.float32]
    gaps_s: npt.NDArray[np.float32]
    speeds: npt.NDArray[np.float16]
    holders: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.levels[0])

    def variants(self) -> tuple[ClipFeatures, ...]:
        """The clip as it is, then in each of its changed variants: what ``levels`` of each gives."""
        return (self, *(replace(self, levels=levels) for levels in self.varied))


def extract_features(
    clips: Sequence[Clip],
    spec: FeatureSpec,
    size_px: tuple[int, int],
    *,
    gap_s: float,
    training: TrainingSettings,
    folder: Path,
    progress: Callable[[int, int], None],
    passed_over: Callable[[str], None],
    numbers: Collection[int] | None = None,
) -> dict[int, ClipFeatures]:
    """Compute, or find in ``folder``, the features of every clip that can be read.

    Args:
        clips: normal footage.
        spec: what is computed of every frame and kept.
        size_px: (height, width) of the frames it takes.
        gap_s: how much earlier the other half of a frame's pair is to be; any frame of the clip may be it.
        training: says every how many-th frame is used, and in which variants.
        folder: where the files go; it holds features of this encoder, size, gap, step and these variants only.
        progress: called with the frames done and the frames there are, as far as that is known.
        passed_over: told of a clip that cannot be read (any more), or is too short to learn from.
        numbers: of those clips that are wanted; None for all.

    Returns:
        Features by the numbers of their clips, rising.

    Raises:
        DatasetError: the disk has no room for the features.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variants = training.augmentation.variants
    wanted = range(len(clips)) if numbers is None else sorted(numbers)
    expected = {number: _expected_frames(clips[number], training.frame_step) for number in wanted}
    _check_space(folder, spec, variants, expected)
    features: dict[int, ClipFeatures] = {}
    done = 0
    for number in wanted:
        clip, stem = clips[number], _stem(folder, number)
        try:
            if not is_extracted(folder, number):
                for count in _extract_clip(number, clip, spec, size_px, gap_s, training, stem):
                    progress(done + count, max(sum(expected.values()), done + count))
            found = open_features(clip, spec, variants, folder, number)
            if len(found) < LEAST_FRAMES:
                raise VideoError(f"{clip.url}: expected {LEAST_FRAMES} frames or more to use, got {len(found)}")
        except VideoError as error:
            expected[number] = 0
            _LOGGER.warning("passed over: %s", error)
            passed_over(str(error))
            progress(done, max(sum(expected.values()), done))
            continue
        expected[number] = len(found)
        done += len(found)
        progress(done, max(sum(expected.values()), done))
        features[number] = found
    return features


def is_extracted(folder: Path, number: int) -> bool:
    """Whether a folder holds all features of a clip.

    Args:
        folder: as for ``extract_features``.
        number: of the clip.
    """
    return _stem(folder, number).with_suffix(".json").exists()


def pyramid_spec(model: ModelSettings, encoder: Encoder) -> FeatureSpec:
    """Every feature vector of every level.

    Raises:
        ConfigError: the encoder takes no images of the model's size.
    """
    encoder.check_size(model.image_size_px)
    height, width = model.image_size_px
    areas = [(height // stride) * (width // stride) for stride in encoder.strides]
    return FeatureSpec(
        names=tuple(name.replace(" ", "") for name in encoder.settings.level_names),
        shapes=tuple(zip(areas, encoder.channels, strict=True)),
        encode=partial(encode, encoder),
    )


def _expected_frames(clip: Clip, frame_step: int) -> int:
    return -(-(clip.frame_count or 0) // frame_step)


def _stem(folder: Path, number: int) -> Path:
    """What the names of a clip's files begin with."""
    return folder / f"clip-{number:05d}"


def _check_space(folder: Path, spec: FeatureSpec, variants: int, expected: Mapping[int, int]) -> None:
    """Say before hours of decoding that the disk is too small, as far as the clips' lengths are known."""
    per_frame = (1 + variants) * spec.bytes_per_frame
    left = sum(count for number, count in expected.items() if not is_extracted(folder, number))
    free = shutil.disk_usage(folder).free
    if left * per_frame + _SPARE_BYTES > free:
        fewer = ", training.augmentation.variants lower" if variants else ""
        raise DatasetError(
            f"{folder}: expected {left * per_frame / 1e9:.1f} GB of room for the features of {left} frames of "
            f"{len(expected)} clips, got {free / 1e9:.1f} GB free; set training.frame_step higher{fewer} or write "
            "elsewhere"
        )


def _extract_clip(
    number: int,
    clip: Clip,
    spec: FeatureSpec,
    size_px: tuple[int, int],
    gap_s: float,
    training: TrainingSettings,
    stem: Path,
) -> Iterator[int]:
    """Write one clip's files; yields the number of frames done so far."""
    done, frame_step = 0, training.frame_step
    names = [_variant_name(name, v) for v in range(1 + training.augmentation.variants) for name in spec.names]
    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(clip.url, size_px, gap_s=gap_s, name=clip.name, image_fps=clip.image_fps)
        )
        files = [stack.enter_context(_array_file(stem, name).open("wb")) for name in names]
        stated_fps = source.frame_rate_fps or _FPS_OF_IMAGES
        sampler: SceneSampler | None = None
        times_s: list[float] = []
        gaps_s: list[npt.NDArray[np.float32]] = []
        speeds: list[npt.NDArray[np.float16]] = []  # small: a few kilobytes per frame
        kept = (frame for index, frame in enumerate(_timed(source, times_s)) if index % frame_step == 0)
        for frames in batches(kept, _BATCH_FRAMES):
            images = np.stack([frame.image for frame in frames])
            paired = images, *stack_previous([frame.previous for frame in frames], images)
            gaps_s.append(paired[-1])
            speeds.append(_speeds(*paired))
            arrays = spec.encode(images)
            for variant in range(1, 1 + training.augmentation.variants):
                arrays += spec.encode(_varied(images, training, number, variant, done))
            for file, array in zip(files, arrays, strict=True):
                with naming(Path(file.name)):
                    file.write(np.ascontiguousarray(array).data)
            sampler = sampler or SceneSampler(actual_fps(stated_fps, times_s) / frame_step)
            for image in images:
                sampler.add(image)
            done += len(images)
            yield done
        assert sampler is not None  # a source without a frame has raised
        save_array(_gray_images_file(stem), sampler.gray_images())
        save_array(_gaps_file(stem), np.concatenate(gaps_s))
        save_array(_speeds_file(stem), np.concatenate(speeds))
        if source.missing():
            _LOGGER.warning("%s: %d of its frames are missing or damaged", clip.name, source.missing())
    for name in names:
        sync(_array_file(stem, name))
    sync(_gray_images_file(stem))
    sync(_gaps_file(stem))
    sync(_speeds_file(stem))
    fps = actual_fps(stated_fps, times_s) / frame_step
    # Last, and in one step: the clip counts as extracted once this file is there.
    write_whole(stem.with_suffix(".json"), json.dumps({"frames": done, "fps": fps}))


def _varied(
    images: npt.NDArray[np.uint8], training: TrainingSettings, clip: int, variant: int, first: int
) -> npt.NDArray[np.uint8]:
    """A variant of some frames of a clip; what moves is looked at in frames as they are.

    Args:
        images: uint8 (B, H, W, 3).
        training: the strength is read.
        clip: number of the clip.
        variant: number of the variant, from 1.
        first: number of the first of the frames among those of the clip.
    """
    drawn = (np.random.default_rng((_DRAWS, clip, variant, first + at)) for at in range(len(images)))
    strength = training.augmentation.strength
    return np.stack([vary_pair(image, None, strength, random)[0] for image, random in zip(images, drawn, strict=True)])


def _timed(frames: Iterable[DecodedFrame], times_s: list[float]) -> Iterator[DecodedFrame]:
    """Frames as they come; their media times go to a list."""
    for frame in frames:
        times_s.append(float(frame.pts * frame.time_base))
        yield frame


def encode(encoder: Encoder, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float16]]:
    """Run the encoder on frames, uint8 (B, H, W, 3); per level float16 (B, positions, D)."""
    with torch.inference_mode():
        batch = torch.from_numpy(images).to(encoder.mean.device)
        maps = [level.permute(0, 2, 3, 1).flatten(1, 2) for level in encoder(batch)]
        return [as_float16(level) for level in maps]


@torch.inference_mode()
def _speeds(
    images: npt.NDArray[np.uint8], previous_luma: npt.NDArray[np.uint8], gaps_s: npt.NDArray[np.float32]
) -> npt.NDArray[np.float16]:
    return as_float16(speed_maps(torch.from_numpy(images), Pairs.of(previous_luma, gaps_s)))


def batches(frames: Iterator[DecodedFrame], count: int) -> Iterator[list[DecodedFrame]]:
    """Frames in lists of ``count``, the last one perhaps shorter."""
    while batch := list(islice(frames, count)):
        yield batch


def _variant_name(name: str, variant: int) -> str:
    return f"{name}-variant{variant}" if variant else name


def _array_file(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.f16")


def _gray_images_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}-scene.npy")


def _speeds_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}-speeds.npy")


def _gaps_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}-gaps.npy")


def open_features(clip: Clip, spec: FeatureSpec, variants: int, folder: Path, number: int) -> ClipFeatures:
    """Features of a clip that were extracted.

    Args:
        clip: which one.
        spec: what was kept of every frame.
        variants: changed ones of every frame.
        folder: as for ``extract_features``.
        number: of the clip.

    Raises:
        RunError: its files are damaged.
    """
    stem = _stem(folder, number)
    values = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    levels, *varied = (_open_levels(spec, variant, values["frames"], stem) for variant in range(1 + variants))
    gray_images = _load_array(_gray_images_file(stem), "pictures", mmap_mode="r")
    gaps_s = _load_array(_gaps_file(stem), f"gaps of {values['frames']} frames")
    if gaps_s.shape != (values["frames"],):
        raise RunError(
            f"{_gaps_file(stem)}: expected gaps of {values['frames']} frames, got shape {gaps_s.shape}; "
            f"delete {stem.parent}"
        )
    speeds = _load_array(_speeds_file(stem), f"speeds in {values['frames']} frames", mmap_mode="r")
    if len(speeds) != values["frames"]:
        raise RunError(
            f"{_speeds_file(stem)}: expected speeds in {values['frames']} frames, got {len(speeds)}; "
            f"delete {stem.parent}"
        )
    return ClipFeatures(clip, values["fps"], levels, tuple(varied), gray_images, gaps_s, speeds)


def _open_levels(spec: FeatureSpec, variant: int, frames: int, stem: Path) -> tuple[npt.NDArray[np.float16], ...]:
    levels = []
    for name, (positions, dims) in zip(spec.names, spec.shapes, strict=True):
        path = _array_file(stem, _variant_name(name, variant))
        if path.stat().st_size != 2 * frames * positions * dims:
            raise RunError(
                f"{path}: expected features of {frames} frames, got a file of another size; delete {stem.parent}"
            )
        levels.append(np.memmap(path, dtype=np.float16, mode="r", shape=(frames, positions, dims)))
    return tuple(levels)


def _load_array(path: Path, what: str, *, mmap_mode: Literal["r"] | None = None) -> npt.NDArray[Any]:
    try:
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise RunError(f"{path}: expected {what}, got a damaged file; delete {path.parent}") from None
