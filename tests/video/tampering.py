"""Real cameras and what can befall them: frames turned, mirrored, blurred, covered, darkened, or harmlessly changed.

Shared with ``benchmarks/tamper.py``, which measures on more of it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.camera_settings import HealthSettings
from pipeline.training.scene_references import SceneSampler, measure_reference
from pipeline.types import SceneReference
from pipeline.video.source import open_source
from pipeline.video.tamper import Condition, TamperMonitor

SIZE_PX = (256, 384)

Images = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Camera:
    """Footage of one camera, uint8 (T, H, W, 3) per clip.

    Attributes:
        name: of the camera.
        fps: frames per second of what is here.
        train: clips by which the scene becomes known.
        watch: later clips.
    """

    name: str
    fps: float
    train: tuple[Images, ...]
    watch: tuple[Images, ...]

    def reference(self, box: Box | None = None) -> SceneReference:
        """The training scene, or a part of it: left, top, right, bottom in relative coordinates."""
        recorded = []
        for clip in self.train:
            recorder = SceneSampler(self.fps)
            for image in clip if box is None else cut(clip, box):
                recorder.add(image)
            recorded.append(recorder.gray_images())
        return measure_reference(recorded)


def load_cameras(data: Path) -> dict[str, Camera]:
    """Four real cameras: the first part of a single recording is for training, the rest to watch."""
    cameras = {}
    recordings = (("person", "one-by-one-person-detection.mp4", 2), ("cars", "car-detection.mp4", 2))
    for name, file, step in (*recordings, ("highway", "highway.avi", 6)):
        images, fps = _decode(data / "cameras" / file, step)
        middle = len(images) * (2 if name == "highway" else 1) // (3 if name == "highway" else 2)
        cameras[name] = Camera(name, fps, (images[:middle],), (images[middle:],))
    train = [_decode(path, 2) for path in sorted((data / "ped2" / "training" / "videos").glob("*.avi"))]
    test = [_decode(path, 2) for path in sorted((data / "ped2" / "testing" / "frames").iterdir())]
    cameras["ped2"] = Camera("ped2", train[0][1], tuple(clip for clip, _ in train), tuple(clip for clip, _ in test))
    return cameras


def _decode(path: Path, step: int) -> tuple[Images, float]:
    with open_source(str(path), SIZE_PX) as source:
        images = np.stack([frame.image for number, frame in enumerate(source) if number % step == 0])
        assert source.frame_rate_fps is not None
        return images, source.frame_rate_fps / step


def watch(
    settings: HealthSettings,
    reference: SceneReference | None,
    images: Sequence[Images] | Images,
    fps: float,
    seconds: float = 0,
) -> dict[Condition, float]:
    """Show a camera's frames to a watch, forwards and backwards until ``seconds`` are over, once at least.

    Returns:
        When each condition was first raised, in seconds.
    """
    looking = TamperMonitor(settings, reference)
    found: dict[Condition, float] = {}
    count = max(len(images), round(seconds * fps))
    for number, image in enumerate(itertools.islice(_to_and_fro(images), count)):
        for condition in looking.update(image, 1000.0 + number / fps):
            found.setdefault(condition, number / fps)
    return found


def _to_and_fro(images: Sequence[Images] | Images) -> Iterator[Images]:
    """Frames without end; none comes twice in a row unless there is but one."""
    order = [*range(len(images)), *range(len(images) - 2, 0, -1)]
    return (images[number] for number in itertools.cycle(order))


def cut(images: Images, box: Box) -> Images:
    """A part of the picture at full size, as a camera sees that was aimed there."""
    height, width = images.shape[1:3]
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    cuts = [Image.fromarray(i).resize((width, height), Image.Resampling.BICUBIC, box=pixels) for i in images]
    return np.stack([np.asarray(image) for image in cuts])


def turns(share: float) -> dict[str, tuple[Box, Box]]:
    """Where a camera looked and looks now that it was turned by a share of what it sees, by the turn's name."""
    part = 1.0 / (1.0 + share)
    left, right = (0.0, 0.0, part, 1.0), (1.0 - part, 0.0, 1.0, 1.0)
    top, bottom = (0.0, 0.0, 1.0, part), (0.0, 1.0 - part, 1.0, 1.0)
    return {
        "turned right": (left, right),
        "turned left": (right, left),
        "tilted down": (top, bottom),
        "tilted up": (bottom, top),
    }


def _noisy(values: npt.NDArray[np.floating], std: float, seed: int = 0) -> Images:
    """Add a sensor's noise, other in every frame."""
    random = np.random.default_rng(seed)
    field = random.standard_normal(values.shape[1:], np.float32) * np.float32(std)
    moved = [image + np.roll(field, tuple(random.integers(0, 200, 2)), axis=(0, 1)) for image in values]
    return np.clip(np.stack(moved), 0, 255).astype(np.uint8)


def _defocused(images: Images) -> Images:
    return _noisy(np.stack([gaussian_filter(image.astype(np.float32), (6, 6, 0)) for image in images]), 2.0)


def _covered(brightness: float) -> Callable[[Images], Images]:
    """Something uniform before the lens, lit a little unevenly."""

    def cover(images: Images) -> Images:
        shade = np.linspace(-12, 12, images.shape[2], dtype=np.float32)[None, None, :, None]
        return _noisy(np.broadcast_to(brightness + shade, images.shape), 3.0)

    return cover


def _shaken(images: Images) -> Images:
    random = np.random.default_rng(0)
    return np.stack([np.roll(image, tuple(random.integers(-1, 2, 2)), axis=(0, 1)) for image in images])


def _jpeg(images: Images) -> Images:
    coded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=20)
        coded.append(np.asarray(Image.open(file)))
    return np.stack(coded)


def _scaled(gain: float, offset: float = 0.0) -> Callable[[Images], Images]:
    return lambda images: np.clip(images.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8)


HARMFUL: dict[str, tuple[Condition, Callable[[Images], Images]]] = {
    "mirrored": ("moved", lambda images: images[:, :, ::-1]),
    "upside down": ("moved", lambda images: images[:, ::-1]),
    "out of focus": ("moved", _defocused),
    "covered, gray": ("moved", _covered(110.0)),
    "covered, bright": ("moved", _covered(225.0)),
    "covered, black": ("dark", lambda images: _noisy(np.zeros(images.shape, np.float32), 4.0)),
    "black": ("dark", np.zeros_like),
    "frozen": ("frozen", lambda images: images[:1]),
}
"""What must be noticed, and as what."""

HARMLESS: dict[str, Callable[[Images], Images]] = {
    "darker by 30 %": _scaled(0.7),
    "brighter by 30 %": _scaled(1.3),
    "less contrast": _scaled(0.5, 64.0),
    "dusk and noise": lambda images: _noisy(images.astype(np.float32) * 0.3, 8.0),
    "JPEG, quality 20": _jpeg,
    "shaken by 1 px": _shaken,
    "shifted by 3 px": lambda images: np.roll(images, (3, 3), axis=(1, 2)),
}
"""What must not be noticed."""
