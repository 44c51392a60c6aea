"""Whole files through the real decoder, and what it says of those that it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import VideoError
from pipeline.video.source import DecodedFrame, VideoSource, open_source
from tests.videos import SIZE_PX, frame_number


def decode(path: Path | str, size_px: tuple[int, int] = SIZE_PX) -> tuple[list[DecodedFrame], VideoSource]:
    """All frames of a file, and where they came from."""
    with open_source(str(path), size_px) as source:
        return list(source), source


def numbers(frames: Iterable[DecodedFrame]) -> list[int]:
    """The numbers that are written into frames."""
    return [frame_number(frame.image) for frame in frames]


def complaint(path: Path | str, **options: Any) -> str:
    """The one line that says why something cannot be decoded."""
    with pytest.raises(VideoError) as caught, open_source(str(path), SIZE_PX, **options) as source:
        list(source)
    text = str(caught.value)
    assert "\n" not in text
    return text
