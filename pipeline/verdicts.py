"""What people said of events: that they were real, or that there was nothing. A file of a run's folder, of JSON lines.

The file is all there is of it: whoever appends a line has said it, and the run's scorers follow within a second or two.
It outlives the run, so that the next one into the folder, a calibration and the next training know it, too.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.alerts import Region
from pipeline.errors import BadInputError

_log = logging.getLogger(__name__)

VerdictKind = Literal["confirmed", "dismissed"]

DISMISSED_FOR_S = 7 * 24 * 3600.0
"""For how long the like of a dismissed event is silent, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody said of an event. A later verdict on the same event takes the place of an earlier one.

    Attributes:
        event_id: of the event.
        camera_id: its camera.
        verdict: ``confirmed``: it was real. ``dismissed``: there was nothing.
        given_at_s: Unix time of the verdict.
        until_at_s: Unix time until which the like of a dismissed event is silent; None for one that was confirmed.
        started_at_s: Unix time of the event's first frame.
        peak_at_s: Unix time of its peak.
        peak_smoothed: its highest smoothed score.
        thresholds: version of the thresholds by which it opened.
        region: where its peak was; None where nobody can tell.
        zone: the watched zone it was in, or None.
        picture: path of its picture, relative to the run's folder, or None.
        clip: the same of its clip.
    """

    event_id: str
    camera_id: str
    verdict: VerdictKind
    given_at_s: float
    until_at_s: float | None
    started_at_s: float
    peak_at_s: float
    peak_smoothed: float
    thresholds: str = ""
    region: Region | None = None
    zone: str | None = None
    picture: str | None = None
    clip: str | None = None

    @classmethod
    def on(
        cls, alert: Mapping[str, Any], verdict: VerdictKind, now_s: float, for_s: float = DISMISSED_FOR_S
    ) -> Verdict:
        """A verdict on the event of an alert.

        Args:
            alert: the newest one of the event, as docs/alerts.md has it.
            verdict: what is said.
            now_s: Unix time.
            for_s: for how long the like of a dismissed event is to be silent.

        Raises:
            BadInputError: what it says of its event is not what alerts say.
        """
        said = {field.name: alert[field.name] for field in fields(cls) if field.name in alert.keys() - _SAID_HERE}
        until_at_s = now_s + for_s if verdict == "dismissed" else None
        return cls.parse({**said, "verdict": verdict, "given_at_s": now_s, "until_at_s": until_at_s})

    @classmethod
    def parse(cls, said: Any) -> Verdict:
        """Read a verdict from a JSON object.

        Raises:
            BadInputError: it is none.
        """
        try:
            return _VERDICTS.validate_python(said)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInputError(
                f"verdict: {where or 'all'}: {first['msg']}, got {str(first['input'])[:60]!r}"
            ) from None

    def as_object(self) -> dict[str, Any]:
        """As a JSON object."""
        return _VERDICTS.dump_python(self, mode="json")

    def as_json(self) -> str:
        """One line of JSON, without its end."""
        return _VERDICTS.dump_json(self).decode()


_SAID_HERE = {"verdict", "given_at_s", "until_at_s"}
_VERDICTS = TypeAdapter(Verdict)


def add_verdict(path: Path, verdict: Verdict) -> None:
    """Keep a verdict; it is on the disk when this returns.

    Args:
        path: the run's file of verdicts; made for this user alone where it is missing.
        verdict: what was said.

    Raises:
        BadInputError: it cannot be kept; nothing has changed.
    """
    line = f"{verdict.as_json()}\n".encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # whoever wrote last had no room for all of it
            _write_whole(file, b"\n" + line if torn else line, size)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise BadInputError(f"{path}: the verdict could not be kept: {error.strerror}") from error


def _write_whole(file: int, data: bytes, size: int) -> None:
    """Append all of it or nothing. In one call: whoever else appends must not come between."""
    if os.write(file, data) != len(data):
        os.truncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_verdicts(path: Path) -> dict[str, Verdict]:
    """The newest verdict on each event, by its id; none where there is no file.

    Damaged lines are passed over, with a warning.

    Raises:
        BadInputError: the file is there and cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInputError(f"{path}: expected readable verdicts, got: {error.strerror}") from error
    found: dict[str, Verdict] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            verdict = _VERDICTS.validate_json(line)
        except ValidationError:
            _log.warning("%s: line %d: expected a verdict, got something else; it is passed over", path, number)
            continue
        found[verdict.event_id] = verdict
    return found


class VerdictFile:
    """Looks after what is said while a run goes on.

    Args:
        path: the run's file of verdicts; need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._failed = False

    def news(self) -> Iterable[Verdict] | None:
        """All verdicts, where the file has changed since the last call; else None, as where it cannot be read."""
        try:
            stat = self._path.stat()
        except OSError:
            changed = self._seen is not None
            self._seen = None
            return () if changed else None
        seen = stat.st_mtime_ns, stat.st_size
        if seen == self._seen:
            return None
        try:
            found = read_verdicts(self._path)
        except BadInputError as error:
            if not self._failed:
                _log.error("%s; what was said holds on", error)
            self._failed = True
            return None
        self._seen, self._failed = seen, False
        return found.values()
