"""What becomes of things that a camera sees for long: a bag left behind, a lamp, a spider on the lens, rain.

Usage: python -m benchmarks.events_rendered [--model FOLDER] [--seed 0] [--keep FOLDER]
Renders a camera of the demo (people walk by, unseen in training) with one such thing, decodes it as a camera's video
is, scores it by a real model, and lets the real scorer decide. Without a model it trains the demo's own, for minutes.

Prints what was said of each scene, whose first frame is of 08:00:00 UTC, and whether that is as it should be (see
``SCENES``); the last line is JSON, kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import SecretStr
from scipy.ndimage import gaussian_filter  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.machine import describe, store
from pipeline.alerts import Alert, Notice
from pipeline.camera_settings import AlertSettings, CameraSettings
from pipeline.config import RuntimeSettings
from pipeline.config_file import load_config
from pipeline.console.alert_lines import alert_line
from pipeline.datasets import sprites
from pipeline.datasets.synthetic import Camera, SyntheticSpec, encode, render
from pipeline.inference.engine import Engine
from pipeline.scoring.scorer import Scorer
from pipeline.sinks.schema import alert_object
from pipeline.training.train import train
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_FPS = 5.0
UNSEEN_CLIP = 77

Image = npt.NDArray[np.uint8]
START_S = 1.8e9  # Unix time of each scene's first frame


@dataclass(frozen=True)
class Told:
    """One alert or notice.

    Attributes:
        kind: of it.
        time_s: media time at which it was said.
        ended: how an event ended; empty where it did not.
        line: as a person reads it.
    """

    kind: str
    time_s: float
    ended: str
    line: str


Said = list[Told]


@dataclass(frozen=True)
class Scene:
    """Something to watch.

    Attributes:
        seconds: how long it is filmed.
        change: what it does to a frame at a time.
        is_right: whether what was said is as it should be.
    """

    seconds: float
    change: Callable[[Image, float, np.random.Generator], Image]
    is_right: Callable[[Said], bool]


def bag(image: Image, time_s: float, _: np.random.Generator, *, until_s: float = 190.0) -> Image:
    """A suitcase that stands there from 20 s on, until somebody takes it."""
    return image if not 20.0 <= time_s < until_s else _pasted(image, sprites.suitcase(70, (214, 40, 40)), 0.3, 0.9)


def bag_and_runner(image: Image, time_s: float, rng: np.random.Generator) -> Image:
    """The same, and somebody who runs by from 170 s to 174 s, when it has long been told."""
    image = bag(image, time_s, rng, until_s=1e9)
    if not 170.0 <= time_s < 174.0:
        return image
    dress = sprites.Dress((250, 220, 30), sprites.SPORTS_TROUSERS, sprites.SKIN[0])
    runner = sprites.runner(56, dress, 2.0 * time_s, facing_left=False)
    return _pasted(image, runner, 0.35 + 0.12 * (time_s - 170.0), 0.62)


def lamp(image: Image, time_s: float, _: np.random.Generator) -> Image:
    """The light is switched off at 20 s and on again at 40 s; from 60 s to 90 s a floodlight is on as well."""
    gain = 0.12 if 20.0 <= time_s < 40.0 else 2.2 if 60.0 <= time_s < 90.0 else 1.0
    return image if gain == 1.0 else np.clip(image * np.float32(gain), 0, 255).astype(np.uint8)


def spider(image: Image, time_s: float, _: np.random.Generator) -> Image:
    """It crawls over the lens from 20 s to 35 s, sits there, and leaves at 190 s."""
    if not 20.0 <= time_s < 190.0:
        return image
    height, width = image.shape[:2]
    way = min(1.0, (time_s - 20.0) / 15.0)
    row, column = height * (0.2 + 0.25 * way), width * (0.05 + 0.6 * way)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    body = ((rows - row) / (0.09 * height)) ** 2 + ((columns - column) / (0.09 * width)) ** 2 < 1.0
    angles = np.arctan2(rows - row, columns - column)
    reach = np.hypot(rows - row, columns - column) < 0.22 * height
    legs = reach & (np.abs(np.sin(4.0 * angles + 0.3 * np.sin(3.0 * time_s) * (way < 1.0))) < 0.12)
    cover = np.asarray(gaussian_filter((body | legs).astype(np.float32), 2.0))  # out of focus
    return (image * (1.0 - 0.85 * cover[..., None])).astype(np.uint8)


def rain(image: Image, time_s: float, rng: np.random.Generator) -> Image:
    """It pours from 20 s to 110 s: streaks everywhere, and less contrast."""
    if not 20.0 <= time_s < 110.0:
        return image
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for _ in range(260):
        row, column, length = rng.integers(height), rng.integers(width), rng.integers(8, 22)
        steps = np.arange(length)
        streaks[(row + steps) % height, (column + steps // 6) % width] = rng.uniform(0.2, 0.5)
    dull = 0.8 * image + 0.2 * 128.0
    return (dull + streaks[..., None] * (235.0 - dull)).astype(np.uint8)


SCENES = {
    "nothing": Scene(120.0, lambda image, *_: image, lambda said: not said),
    "bag left behind": Scene(210.0, bag, lambda said: _events(said) == ["still_there"]),
    "bag, then a runner": Scene(
        185.0, bag_and_runner, lambda said: _events(said) == ["still_there", "over"] and 170.0 < _news(said)[1] < 175.0
    ),
    "lamp off and on": Scene(120.0, lamp, lambda said: not _events(said) and _notices(said) == 2),
    "spider on the lens": Scene(210.0, spider, lambda said: len(_news(said)) <= 1 and "still_there" in _events(said)),
    "rain": Scene(130.0, rain, lambda said: len(_news(said)) <= 1),
}
"""With each, what should be said: nothing of people who walk as ever; of a bag one event, which ends as still there,
and nothing until it is gone; of a runner beside it an event of its own; of lamps two notices and no event; of a spider
one event at most, which ends as still there; of rain one event at most."""


def _pasted(image: Image, sprite: sprites.Sprite, x: float, y: float) -> Image:
    """A frame with a sprite whose feet are at (x, y), relative."""
    rows, columns = sprite.solid.shape
    top, left = round(y * image.shape[0]) - rows, round(x * image.shape[1]) - columns // 2
    out = image.astype(np.float32)
    out[top : top + rows, left : left + columns] *= 1.0 - sprite.opacity
    out[top : top + rows, left : left + columns] += sprite.colour
    return np.clip(out, 0, 255).astype(np.uint8)


def _events(said: Said) -> list[str]:
    """How events ended that were told to end."""
    return [told.ended for told in said if told.kind == "end"]


def _news(said: Said) -> list[float]:
    return [told.time_s for told in said if told.kind == "new"]


def _notices(said: Said) -> int:
    return sum(told.kind == "light_changed" for told in said)


def watched(scene: Scene, video: Path, engine: Engine, seed: int) -> tuple[Said, dict[str, int]]:
    """Film a scene, and say what the scorer says of it.

    Args:
        scene: what to film.
        video: the file to write; mp4.
        engine: the model.
        seed: of the light, the people and the rain.

    Returns:
        What was said, and how many frames were suppressed, by reason.
    """
    spec = SyntheticSpec(size_px=engine.image_size_px, seed=seed)
    camera, rng = Camera(0, SyntheticSpec(size_px=engine.image_size_px)), np.random.default_rng(seed)
    count = round(scene.seconds * spec.fps)
    shown = camera.frames(UNSEEN_CLIP + seed, count, anomalies=False)
    encode(video, (scene.change(image, n / spec.fps, rng) for n, (image, _) in enumerate(shown)), spec)
    settings = CameraSettings(
        id=camera.name, url=SecretStr(str(video)), sample_fps=SAMPLE_FPS, alerts=AlertSettings(), time_zone="UTC"
    )
    scorer = Scorer(engine.card)
    scorer.configure([settings], 0.0)
    said: Said = []
    suppressed: dict[str, int] = {}
    frames = _frames(video, camera.name, engine)
    while group := list(islice(frames, 8)):
        predictions = engine.predict(FrameBatch.of(group), [camera.name] * len(group))
        for prediction in predictions:
            outcome = scorer.update([prediction], engine.card.fingerprint, 0.0)
            said += [_told(alert, prediction.header.media_time_s) for alert in outcome.alerts]
            for score in outcome.scores:
                if score.suppressed:
                    suppressed[score.suppressed] = suppressed.get(score.suppressed, 0) + 1
    said += [_told(alert, scene.seconds) for alert in scorer.close(0.0).alerts]
    return said, suppressed


def _frames(video: Path, name: str, engine: Engine) -> Iterator[Frame]:
    """A file's frames as a camera's are that are thinned to ``SAMPLE_FPS``: each with its pair, of all frames."""
    gap_s, step = engine.card.model.motion.gap_s, round(SyntheticSpec().fps / SAMPLE_FPS)
    with open_source(str(video), engine.image_size_px, gap_s=gap_s) as source:
        first: int | None = None
        for index, frame in enumerate(source):
            if index % step:
                continue
            first = frame.pts if first is None else first
            ticks = frame.pts - first
            header = FrameHeader(name, 0, index, ticks, frame.time_base, START_S + float(ticks * frame.time_base))
            yield Frame(header, frame.image, frame.previous)


def _told(alert: Alert | Notice, time_s: float) -> Told:
    ended = alert.event.ended if isinstance(alert, Alert) else None
    line = alert_line(alert_object(replace(alert, emitted_at_s=START_S + time_s))).plain
    return Told(alert.kind, time_s, ended or "", line)


def trained(folder: Path) -> Path:
    """The demo's model, trained here."""
    dataset = render(folder / "footage", SyntheticSpec())
    train(load_config(ROOT / "configs/demo.yaml"), dataset, folder / "model")
    return folder / "model"


def main(arguments: list[str]) -> int:
    """Watch every scene; 0 where all end as they should."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the videos")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        engine = Engine.ready(options.model or trained(Path(scratch)), RuntimeSettings(compile=False))
        found: dict[str, Any] = {}
        for name, scene in SCENES.items():
            said, suppressed = watched(scene, folder / f"{name.replace(' ', '-')}.mp4", engine, options.seed)
            right = scene.is_right(said)
            print(f"{name}: {'as it should' if right else 'NOT AS IT SHOULD'}; suppressed {suppressed}", flush=True)
            for told in said:
                print(f"  {told.line}", flush=True)
            found[name] = {"right": right, "said": [asdict(told) for told in said], "suppressed": suppressed}
    result = {"benchmark": "events-rendered", **describe(), "model": engine.card.fingerprint, "seed": options.seed}
    store({**result, "scenes": found})
    return 0 if all(scene["right"] for scene in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
