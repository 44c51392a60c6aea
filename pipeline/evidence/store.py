"""Where evidence of events is kept: ``events/DATE/CAMERA/EVENT/`` with picture, clip and what is known of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from pipeline.alerts import Event
from pipeline.errors import BadInputError
from pipeline.files import replace_folder_whole

FOLDER = "events"
SUFFIXES = (".mp4", ".mkv")
"""What a clip may be: mp4, which everything plays, or Matroska, which holds what mp4 does not."""

PICTURE, ABOUT = "picture.jpg", "event.json"
FILES = (PICTURE, ABOUT, *(f"clip{suffix}" for suffix in SUFFIXES))
"""All that an event's folder may hold."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class EventPlace:
    """An event's place among the others.

    Attributes:
        date: ``YYYY-MM-DD``, of its beginning, where the camera is.
        camera_id: the camera.
        name: of its folder there.

    Raises:
        BadInputError: one of them would lead elsewhere.
    """

    date: str
    camera_id: str
    name: str

    def __post_init__(self) -> None:
        if not _DATE.fullmatch(self.date):
            raise BadInputError(f"expected a date YYYY-MM-DD, got {self.date!r}")
        for name in (self.camera_id, self.name):
            if not _NAME.fullmatch(name) or ".." in name:
                raise BadInputError(f"expected an id that can name a folder, got {name!r}")

    @classmethod
    def of(cls, path: str) -> EventPlace:
        """The place that a file of an event lies in.

        Args:
            path: of the file, relative to the output folder.

        Raises:
            BadInputError: it is none of an event.
        """
        parts = PurePosixPath(path).parts
        if len(parts) != 5 or parts[0] != FOLDER:
            raise BadInputError(f"expected {FOLDER}/DATE/CAMERA/EVENT/FILE, got {path!r}")
        return cls(*parts[1:4])

    @property
    def relative(self) -> PurePosixPath:
        """Path relative to the output folder."""
        return PurePosixPath(FOLDER, self.date, self.camera_id, self.name)

    def within(self, output: Path) -> Path:
        """Its folder."""
        return output / self.relative


@dataclass(frozen=True, slots=True)
class Stored:
    """What an event's folder holds.

    Attributes:
        picture: its path relative to the output folder; None where there is none.
        clip: the same.
        is_final: whether nothing more is to come.
    """

    picture: str | None = None
    clip: str | None = None
    is_final: bool = False


def store(
    output: Path, place: EventPlace, event: Event, *, picture: bytes | None, clip: Path | None, final: bool
) -> None:
    """Write an event's folder, in the place of what was there before; whole, or not at all.

    Args:
        output: the run's output folder; what is missing of the folders between is made.
        place: of the event.
        event: as it is known.
        picture: a JPEG; None where there is none.
        clip: a file on the same disk, which is moved there; None where there is none.
        final: whether nothing more is to come.

    Raises:
        OSError: it cannot be written.
    """
    folder = place.within(output)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replace_folder_whole(folder) as staged:
        if picture is not None:
            (staged / PICTURE).write_bytes(picture)
        if clip is not None:
            clip.rename(staged / clip.name)
        paths = {
            "picture": None if picture is None else str(place.relative / PICTURE),
            "clip": None if clip is None else str(place.relative / clip.name),
        }
        about = {**asdict(event), **paths, "is_final": final}
        (staged / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def stored(output: Path, place: EventPlace) -> Stored | None:
    """What there is of an event; None where there is nothing that can be read.

    Args:
        output: the run's output folder.
        place: of the event.
    """
    folder = place.within(output)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        there = {path.name for path in folder.iterdir()}
    except (OSError, ValueError):
        return None
    clip = next((name for name in FILES if name.startswith("clip.") and name in there), None)
    picture = str(place.relative / PICTURE) if PICTURE in there else None
    final = isinstance(about, dict) and about.get("is_final") is True
    return Stored(picture, None if clip is None else str(place.relative / clip), final)
