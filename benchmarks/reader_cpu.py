"""What pairs cost a reader: CPU time per frame of decoding, thinning and resizing, with pairs and without.

    python -m benchmarks.reader_cpu VIDEO...

reads every file, and the first of them scaled to 1080p at 25 frames per second, at 2 and 5 frames per second and at all
of them. Rounds with pairs and without alternate; the median of their ratios is told, so other work on the machine meets
both alike. About five minutes for seven files on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from benchmarks.machine import describe, store
from pipeline.model_settings import MotionSettings
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import DecodedFrame, open_source

_SIZE_PX = (256, 384)
_MOST_FRAMES = 150
_LARGE_PX, _LARGE_FPS = (1080, 1920), 25


def cpu_s(video: Path, sample_fps: float | None, gap_s: float | None) -> tuple[float, int, int]:
    """CPU seconds of reading the first frames of a file, how many there were, and how many were wanted."""
    wanted, before = 0, time.process_time()
    count = 0
    with open_source(str(video), _SIZE_PX, gap_s=gap_s) as source:
        frames = (arrival for arrival in source.arrivals(PtsSampler(sample_fps).wants) if arrival is not None)
        for count, arrival in enumerate(itertools.islice(frames, _MOST_FRAMES), start=1):  # noqa: B007
            wanted += isinstance(arrival, DecodedFrame)
    return time.process_time() - before, count, wanted


def enlarged(video: Path, out: Path) -> Path:
    """The first frames of a video as H.264 at 1080p, 25 frames per second."""
    height, width = _LARGE_PX
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream("libx264", rate=_LARGE_FPS, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number, frame in enumerate(itertools.islice(source.decode(video=0), _MOST_FRAMES)):
            large = frame.reformat(width=width, height=height, format="yuv420p")
            large.pts, large.time_base = number, Fraction(1, _LARGE_FPS)
            target.mux(stream.encode(large))
        target.mux(stream.encode(None))
    return out


def compared(video: Path, sample_fps: float | None, rounds: int) -> dict[str, Any]:
    """One file at one rate; milliseconds of CPU per frame that came, medians over rounds."""
    gap_s = MotionSettings().gap_s
    without, with_pairs = [], []
    frames = wanted = 0
    for turn in range(rounds + 1):
        plain_s, frames, wanted = cpu_s(video, sample_fps, None)
        paired_s, _, _ = cpu_s(video, sample_fps, gap_s)
        if turn:  # the first fills caches
            without.append(1000.0 * plain_s / frames)
            with_pairs.append(1000.0 * paired_s / frames)
    return {
        "video": video.name,
        "sample_fps": sample_fps,
        "frames": frames,
        "wanted": wanted,
        "without_pairs_ms": round(statistics.median(without), 4),
        "with_pairs_ms": round(statistics.median(with_pairs), 4),
        "ratio": round(statistics.median(b / a for a, b in zip(without, with_pairs, strict=True)), 4),
    }


def main() -> None:
    """Measure all files at all rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        large = enlarged(arguments.videos[0], Path(folder) / "1080p25.mp4")
        for video, sample_fps in itertools.product([*arguments.videos, large], (2.0, 5.0, None)):
            measured.append(compared(video, sample_fps, arguments.rounds))
            print(measured[-1], flush=True)
    store({"benchmark": "reader-cpu", **describe(), "size_px": list(_SIZE_PX), "measured": measured})


if __name__ == "__main__":
    main()
