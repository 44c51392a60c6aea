"""What keeping packets for clips costs a live camera: CPU time per frame beside decoding, and memory.

    python -m benchmarks.evidence VIDEO...

reads every file, and the first of them scaled to 1080p at 25 frames per second, at 2 frames per second and at all of
them, with pairs as ``stream`` does. Rounds with a ring and without alternate; the median of their ratios is told, so
other work on the machine meets both alike. Memory is that of a ring through which a minute of the file went, at its own
speed, but without waiting. Also told: how long picture and clip of a ten-second event take in the writing thread.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from benchmarks.machine import describe, store
from benchmarks.reader_cpu import enlarged
from pipeline.alerts import Event
from pipeline.camera_settings import CameraSettings
from pipeline.evidence.packet_ring import PacketRing
from pipeline.evidence.writer import EvidenceWriter
from pipeline.evidence_settings import EvidenceSettings
from pipeline.model_settings import MotionSettings
from pipeline.runtime.evidence import DesiredEvidence, EvidenceRequest
from pipeline.video.packet_tap import PacketTap
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import open_source

_SIZE_PX = (256, 384)
_MOST_FRAMES = 150
_MINUTE_S = 60.0
_EVENT = (10.0, 20.0)


class _Clock:
    """Monotonic seconds, as far as the footage has come."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _ring(clock: _Clock) -> PacketRing:
    settings = EvidenceSettings()
    return PacketRing(settings.before_s + 10.0, round(settings.ring_mb * 1e6), now=clock)


def cpu_s(video: Path, sample_fps: float | None, tap: PacketTap | None) -> tuple[float, int]:
    """CPU seconds of reading the first frames of a file, and how many there were."""
    count, before = 0, time.process_time()
    with open_source(str(video), _SIZE_PX, gap_s=MotionSettings().gap_s, tap=tap) as source:
        frames = (arrival for arrival in source.arrivals(PtsSampler(sample_fps).wants) if arrival is not None)
        for count, _ in enumerate(itertools.islice(frames, _MOST_FRAMES), start=1):  # noqa: B007
            pass
    return time.process_time() - before, count


def compared(video: Path, sample_fps: float | None, rounds: int) -> dict[str, Any]:
    """One file at one rate; milliseconds of CPU per frame that came, medians over rounds."""
    without, with_ring = [], []
    for turn in range(rounds + 1):
        plain_s, frames = cpu_s(video, sample_fps, None)
        kept_s, _ = cpu_s(video, sample_fps, _ring(_Clock()).connect())
        if turn:  # the first fills caches
            without.append(1000.0 * plain_s / frames)
            with_ring.append(1000.0 * kept_s / frames)
    return {
        "video": video.name,
        "sample_fps": sample_fps,
        "without_ms": round(statistics.median(without), 4),
        "with_ring_ms": round(statistics.median(with_ring), 4),
        "ratio": round(statistics.median(b / a for a, b in zip(without, with_ring, strict=True)), 4),
    }


def play(video: Path, ring: PacketRing, clock: _Clock, seconds: float) -> None:
    """Have a file go through a ring, round after round, as a stand-in plays it."""
    tap, began_s = ring.connect(), 0.0
    tap.begin_session(0)
    while clock.now_s < seconds:
        with open_source(str(video), _SIZE_PX, tap=_Round(tap, began_s, clock)) as source:
            for _ in source.arrivals(lambda _: False):
                if clock.now_s >= seconds:
                    return
        began_s = clock.now_s + 0.04


def memory(video: Path) -> dict[str, Any]:
    """What a ring holds of a file in the end, and how far back that reaches."""
    clock = _Clock()
    ring = _ring(clock)
    play(video, ring, clock, _MINUTE_S)
    begins_s, ends_s = ring.cut(0, 0.0).packets[0][1].media_s or 0.0, clock.now_s
    return {
        "video": video.name,
        "megabits_per_s": round(8e-6 * ring.size / (ends_s - begins_s), 2),
        "ring_mb": round(ring.size / 1e6, 2),
        "reaches_back_s": round(ends_s - begins_s, 1),
    }


def recorded(video: Path, folder: Path) -> dict[str, Any]:
    """Milliseconds of CPU for the picture and the clip of an event of ten seconds, in the writing thread."""
    clock = _Clock()
    writer = EvidenceWriter(EvidenceSettings(ring_mb=1000.0), folder, folder / "elsewhere", now=_Clock())
    ring = writer.keeper(CameraSettings.model_validate({"id": "gate", "url": "rtsp://gate/main"}))
    assert ring is not None
    play(video, ring, clock, _EVENT[1] + 1.0)
    start_s, end_s = _EVENT
    event = Event("gate-1-0-1", "gate", 0, start_s, None, 1.0, 6.0, 1.0, 1, 5.0)
    before = time.process_time()
    for number, ended in enumerate((None, end_s), start=1):
        asked = EvidenceRequest(replace(event, end_s=ended), start_s, start_s + 1.0, is_final=ended is not None)
        writer.want(DesiredEvidence(number, (asked,)), here=True)
        writer.step()
    took_ms = round(1000.0 * (time.process_time() - before), 1)
    report, _ = writer.report()
    assert all(answer.clip is not None for answer in report.answers), report
    return {"picture_and_clip_ms": took_ms}


class _Round:
    """A tap that is told of later times, those of a later round, and moves a clock with them."""

    def __init__(self, tap: PacketTap, began_s: float, clock: _Clock) -> None:
        self._tap, self._began_s, self._clock = tap, began_s, clock
        self.begin_session, self.begin, self.add = tap.begin_session, tap.begin, tap.add

    def shown(self, frame: av.VideoFrame, media_time_s: float) -> None:
        self._clock.now_s = self._began_s + media_time_s
        self._tap.shown(frame, self._clock.now_s)


def main() -> None:
    """Measure all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cpu: list[dict[str, Any]] = []
    rings: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        large = enlarged(arguments.videos[0], Path(folder) / "1080p25.mp4")
        for number, video in enumerate([*arguments.videos, large]):
            cpu += [compared(video, sample_fps, arguments.rounds) for sample_fps in (2.0, None)]
            output = Path(folder) / f"{number}"
            output.mkdir()
            rings.append(memory(video) | recorded(video, output))
            print(cpu[-2:], rings[-1], flush=True)
    store({"benchmark": "evidence", **describe(), "size_px": list(_SIZE_PX), "cpu": cpu, "rings": rings})


if __name__ == "__main__":
    main()
