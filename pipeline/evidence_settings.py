"""Settings of evidence, ``output.evidence``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat

from pipeline.model_settings import Settings


class EvidenceSettings(Settings):
    """Which pictures and clips of events ``stream`` keeps, and for how long.

    Attributes:
        pictures: whether a picture of every event's peak is kept.
        clips: whether a clip of every event is kept.
        before_s: media time before the event's first frame with which a clip begins at the latest.
        longest_s: media time from the event's first frame after which a clip ends though the event goes on.
        keep_days: days after which the evidence of an event is deleted.
        keep_gb: gigabytes (10^9 bytes) of evidence, of which the oldest is deleted first.
        ring_mb: megabytes (10^6 bytes) of packets that are kept in memory of each live camera at most.
    """

    pictures: bool = True
    clips: bool = True
    before_s: Annotated[float, Field(ge=0.0, le=60.0)] = 5.0
    longest_s: Annotated[float, Field(ge=1.0, le=3600.0)] = 120.0
    keep_days: PositiveFloat = 30.0
    keep_gb: PositiveFloat = 10.0
    ring_mb: PositiveFloat = 32.0

    @property
    def is_wanted(self) -> bool:
        """Whether anything is kept."""
        return self.pictures or self.clips
