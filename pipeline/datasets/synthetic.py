"""Footage of cameras that do not exist, with ground truth to the pixel: enough to show and test the whole path.

People walk along their usual ways through a plaza, a street and a gate, under slowly changing light and sensor noise.
In the test part something comes along that does not belong: a van, a cyclist, somebody running where nobody walks, a
suitcase left behind. Written as H.264 and NumPy masks in the layout of ShanghaiTech Campus (``stc``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from pipeline.datasets.base import Dataset
from pipeline.datasets.detect import open_dataset
from pipeline.datasets.figures import KINDS, Anomaly, Figure, Walker
from pipeline.datasets.scenery import PLACES, Lane, background
from pipeline.datasets.sprites import Sprite
from pipeline.errors import DatasetError
from pipeline.files import save_array

_WALKERS_PER_LANE = 2
_ANOMALY_EVERY_S = 10.0
_ANOMALY_SHARE = 0.36  # of the time; a little less of it is visible, since things come in from outside
_VISIBLE_PX_SHARE = 3e-4  # of the image: a frame with less of the anomaly than this counts as normal
_LIGHT_DRIFT, _LIGHT_PERIOD_S = 0.03, 24.0
_NOISE_STD = 1.6  # of 255
_NOISE_FIELDS = 24
_CRF, _GOP = "20", 25


@dataclass(frozen=True)
class SyntheticSpec:
    """What to render.

    Attributes:
        cameras: how many; their scenes are called plaza, road, gate, plaza2...
        size_px: (height, width), both even.
        fps: frames per second.
        train_clips: clips per camera in the training part.
        train_frames: frames of each.
        test_clips: clips per camera in the test part.
        test_frames: frames of each, at least 20.
        seed: the same seed gives the same pixels.
    """

    cameras: int = 3
    size_px: tuple[int, int] = (192, 256)
    fps: int = 10
    train_clips: int = 2
    train_frames: int = 150
    test_clips: int = 2
    test_frames: int = 200
    seed: int = 0

    @property
    def total_frames(self) -> int:
        """Frames of all clips."""
        return self.cameras * (self.train_clips * self.train_frames + self.test_clips * self.test_frames)


def render(root: Path, spec: SyntheticSpec, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Render a data set into a folder.

    Args:
        root: gets ``training`` and ``testing``; made when it is not there.
        spec: what to render.
        progress: called with (frames done, frames in all) after every frame.

    Returns:
        The data set, opened and checked.

    Raises:
        DatasetError: there is a data set in the folder already.
    """
    for part in ("training", "testing"):
        if (root / part).exists():
            raise DatasetError(f"{root / part}: expected a folder without a data set to render into, got one")
    videos = {part: root / part / "videos" for part in ("training", "testing")}
    masks = root / "testing" / "test_frame_mask", root / "testing" / "test_pixel_mask"
    for folder in (*videos.values(), *masks):
        folder.mkdir(parents=True)
    done = 0

    def counted(frames: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal done
        for frame in frames:
            yield frame
            done += 1
            if progress is not None:
                progress(done, spec.total_frames)

    for number in range(spec.cameras):
        camera = Camera(number, spec)
        for clip in range(1, spec.train_clips + 1):
            frames = (frame for frame, _ in camera.frames(clip, spec.train_frames, anomalies=False))
            encode(videos["training"] / f"{camera.name}_{clip:03d}.mp4", counted(frames), spec)
        for clip in range(1, spec.test_clips + 1):
            truth = np.zeros((spec.test_frames, *spec.size_px), np.uint8)
            frames = _with_truth(camera.frames(clip, spec.test_frames, anomalies=True), truth)
            name = f"{camera.name}_{clip:04d}"
            encode(videos["testing"] / f"{name}.mp4", counted(frames), spec)
            save_array(masks[0] / f"{name}.npy", truth.any(axis=(1, 2)).astype(np.uint8))
            save_array(masks[1] / f"{name}.npy", truth)
    return open_dataset(root, need="any")


def _with_truth(
    frames: Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]], truth: npt.NDArray[np.uint8]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Pass frames on and put their masks into ``truth``."""
    for index, (frame, mask) in enumerate(frames):
        truth[index] = mask
        yield frame


def encode(path: Path, frames: Iterator[npt.NDArray[np.uint8]], spec: SyntheticSpec) -> None:
    """Write H.264 whose bytes are the same every time.

    That takes one thread, and no macroblock tree: x264's vector code for it reads past the end of its tables on small
    pictures, so that about one file of 64 x 48 in fifty came out different.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=spec.fps)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = spec.size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = _GOP
        stream.options = {"crf": _CRF, "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, spec.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Camera:
    """One place under one light, with the people who walk there.

    Args:
        number: which camera, from 0.
        spec: what is rendered.
    """

    def __init__(self, number: int, spec: SyntheticSpec) -> None:
        place = PLACES[number % len(PLACES)]
        copy = number // len(PLACES) + 1
        self.name = place.name if copy == 1 else f"{place.name}{copy}"
        self._place, self._number, self._spec = place, number, spec
        rng = np.random.default_rng([spec.seed, number])
        self._background = background(place, spec.size_px, rng)
        shape = (_NOISE_FIELDS, *spec.size_px, 3)
        self._noise = rng.standard_normal(shape, np.float32) * np.float32(_NOISE_STD)
        self._drawn: dict[tuple[object, ...], Sprite] = {}

    def frames(
        self, clip: int, count: int, *, anomalies: bool
    ) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
        """Frames of one clip, each with the mask of what does not belong.

        Args:
            clip: number of the clip, from 1.
            count: frames.
            anomalies: whether anything does not belong.

        Yields:
            uint8 (H, W, 3) RGB, and bool (H, W).
        """
        rng = np.random.default_rng([self._spec.seed, self._number, clip, int(anomalies)])
        walkers = [Walker.drawn_by(rng, self._place, lane, self._spec.size_px) for lane in self._walks()]
        events = self._events(rng, clip, count) if anomalies else []
        light_phase = rng.uniform(0, 2 * math.pi)
        for index in range(count):
            time_s = index / self._spec.fps
            figures = [walker.at(time_s) for walker in walkers]
            figures += [event.at(index) for event in events if event.first <= index < event.last]
            image, mask = self._compose(figures)
            light = 1.0 + _LIGHT_DRIFT * math.sin(2 * math.pi * time_s / _LIGHT_PERIOD_S + light_phase)
            noise = self._noise[rng.integers(_NOISE_FIELDS)][:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
            image *= np.float32(light)
            image += noise
            yield np.clip(image, 0, 255, out=image).astype(np.uint8), mask

    def _walks(self) -> list[Lane]:
        return [lane for lane in self._place.walks for _ in range(_WALKERS_PER_LANE)]

    def _events(self, rng: np.random.Generator, clip: int, count: int) -> list[Anomaly]:
        """What does not belong, one after the other, with normal stretches before, between and after."""
        slots = max(2, round(count / self._spec.fps / _ANOMALY_EVERY_S))
        length = count / slots
        events = []
        for slot in range(slots):
            first = round((slot + 0.5 * (1 - _ANOMALY_SHARE) * rng.uniform(0.6, 1.4)) * length)
            kind = KINDS[(self._number + (clip - 1) * slots + slot) % len(KINDS)]
            last = first + round(_ANOMALY_SHARE * length)
            events.append(Anomaly.drawn_by(rng, self._place, kind, first, last))
        return events

    def _compose(self, figures: list[Figure]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Lay figures over the background, the farthest first, and keep what is seen of those that do not belong."""
        image = self._background.copy()
        mask = np.zeros(self._spec.size_px, np.bool_)
        for figure in sorted(figures, key=lambda figure: figure.y):
            unit_px = max(round(self._place.person_px(figure.y, self._spec.size_px[0])), 4)
            key = (figure.look, unit_px, figure.step, figure.facing_left)
            if key not in self._drawn:
                self._drawn[key] = figure.draw(unit_px)
            _overlay(image, mask, self._drawn[key], figure)
        if mask.sum() < _VISIBLE_PX_SHARE * mask.size:
            mask[:] = False
        return image, mask


def _overlay(image: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], sprite: Sprite, figure: Figure) -> None:
    """Lay a sprite onto the frame, cut at its borders; whatever lies in front hides the mask of what lies behind."""
    height, width = mask.shape
    rows, columns = sprite.solid.shape
    top, left = round(figure.y * height) - rows, round(figure.x * width) - columns // 2
    inside = np.s_[max(top, 0) : min(top + rows, height), max(left, 0) : min(left + columns, width)]
    if inside[0].start >= inside[0].stop or inside[1].start >= inside[1].stop:
        return
    part = np.s_[inside[0].start - top : inside[0].stop - top, inside[1].start - left : inside[1].stop - left]
    image[inside] *= 1.0 - sprite.opacity[part]
    image[inside] += sprite.colour[part]
    mask[inside][sprite.solid[part]] = not figure.belongs
