"""Where a model is: a folder, or an address of any file system that fsspec knows (``s3://bucket/model``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pipeline.models.card import ModelCard
from pipeline.redaction import redact
from pipeline.remote_files import is_address


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where those who run a model get it, and which model it must be.

    Attributes:
        fingerprint: of the model; another one that is found in its place is refused.
        place: an absolute folder, or an address; it may hold a password.
        server: name of the actor that hands out a folder's files to nodes that do not have it; None where whoever wants
            the model reads the place itself.
    """

    fingerprint: str
    place: str = field(repr=False)
    server: str | None = None

    @classmethod
    def of(cls, card: ModelCard, place: str | Path) -> Self:
        """The source of a model that was found at a place.

        Args:
            card: of the model.
            place: a folder or an address.
        """
        text = str(place)
        return cls(card.fingerprint, text if is_address(text) else str(Path(text).resolve()))

    @property
    def short_fingerprint(self) -> str:
        """The first 12 digits of the fingerprint."""
        return self.fingerprint[:12]

    @property
    def shown(self) -> str:
        """The place, without credentials."""
        return redact(self.place)
