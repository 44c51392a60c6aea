"""A Parquet data set as sinks of tests write it, and what is in it."""

from pathlib import Path

from pipeline.sinks.parquet import ParquetSink, staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(root, *, maps=False, rotate_s=60.0, now=None, **of_run) -> ParquetSink:
    return ParquetSink(root, maps=maps, rotate_s=rotate_s, now=now or Clock(), **of_run)


def parquet_files(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))


def indices(root, camera_id="gate") -> list[int]:
    return read_clip_scores(root)[camera_id].index.tolist()


def journals(root) -> list[Path]:
    return sorted(staging_folder(root).glob("*"))
