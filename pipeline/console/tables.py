"""Tables of how a run went and how well it scored.

Statuses and alerts come out of Redis, where anybody may write: what lacks keys, or holds something else under them, is
shown as far as it goes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.budget import rate_in_words

_MILLISECONDS = 1000.0


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold, too: more digits could not be formatted."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _number(value: Any, unit: float = 1.0, digits: int = 1) -> str:
    return f"{value * unit:,.{digits}f}" if _is_number(value) else "-"


def _count(value: Any) -> str:
    return _number(value, digits=0)


def print_object(
    value: Mapping[str, Any], line: Callable[[Mapping[str, Any]], RenderableType], *, as_json: bool, out: Console
) -> None:
    """Print an object for scripts, or a line about it for people.

    Args:
        value: the object.
        line: what people are to read of it.
        as_json: whether scripts read it: one line of JSON, at once.
        out: for people.
    """
    if as_json:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        sys.stdout.flush()
    else:
        out.print(line(value))


def plain(value: Any) -> str:
    """A value in one line that no terminal obeys."""
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _dropped(status: Mapping[str, Any]) -> dict[str, int]:
    """How many frames a status says were dropped, by reason."""
    dropped = status.get("dropped")
    found = dropped.items() if isinstance(dropped, dict) else ()
    return {plain(reason): count for reason, count in found if _is_number(count)}


def _rate(per_hour: float) -> str:
    return f"{per_hour:.2g}" if per_hour < 100.0 else f"{per_hour:,.0f}"


def _promise(status: Mapping[str, Any]) -> str:
    """How many events normal footage opens, in what interval, and whether there was too little of it to tell."""
    expected, interval = status.get("expected_per_hour"), status.get("interval_per_hour")
    if not isinstance(expected, int | float):
        return "-"
    said = rate_in_words(expected)
    if isinstance(interval, list | tuple) and len(interval) == 2 and all(map(_is_number, interval)):
        said += f" ({_rate(interval[0])} to {_rate(interval[1])}/h)"
    return f"{said}, provisional" if status.get("provisional") is True else said


def cameras_table(statuses: Iterable[Mapping[str, Any]], title: str) -> Table:
    """One row per camera: its frame counts, its speed, its events and how many normal footage is expected to open.

    Args:
        statuses: as ``CameraStatus.as_json`` gives them.
        title: above the table.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("camera", no_wrap=True)
    table.add_column("state")
    for heading in ("decoded", "scored", "dropped", "fps", "p50 ms", "p99 ms", "events", "false alarms"):
        table.add_column(heading, justify="right")
    for status in statuses:
        dropped, conditions = _dropped(status), status.get("conditions")
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
        state = [status.get("state"), *(conditions if isinstance(conditions, list) else ())]
        state += ["not armed"] if status.get("armed") is False else []
        row = (
            plain(status.get("camera_id")),
            ", ".join(map(plain, state)),
            _count(status.get("decoded")),
            _count(status.get("scored")),
            _count(sum(map(float, dropped.values()))) + (f" ({reasons})" if reasons else ""),
            _number(status.get("scored_fps")),
            _number(status.get("latency_p50_s"), _MILLISECONDS, 0),
            _number(status.get("latency_p99_s"), _MILLISECONDS, 0),
            plain(status.get("events")),
            _promise(status),
        )
        table.add_row(*map(Text, row))  # Text: a string would be read as markup
    return table


def metrics_table(rows: Iterable[tuple[str, ...]], title: str) -> Table:
    """A table of metrics.

    Args:
        rows: the heading row, then the others; the first column holds names.
        title: above the table.
    """
    heading, *body = rows
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(heading):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    return table


def camera_errors(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for everything that was wrong with a camera's stream."""
    lines = []
    for status in statuses:
        if status.get("error"):
            lines.append(plain(status["error"]))
        dropped, missing, decoded = _dropped(status), status.get("missing"), status.get("decoded")
        damaged = sum(dropped.get(reason, 0) for reason in ("corrupt", "decode_error"))
        came = [f"{damaged} frames came damaged"] if damaged else []
        if missing and _is_number(missing) and _is_number(decoded):
            came.insert(0, f"{missing} of {decoded + missing} frames that the file promises never came")
        if came:
            camera_id, scored = plain(status.get("camera_id")), plain(status.get("scored"))
            lines.append(f"camera {camera_id}: {', '.join(came)}; {scored} were scored")
    return lines


def camera_line(camera: Mapping[str, Any]) -> str:
    """A camera of a run in one line.

    Args:
        camera: as the request ``list`` answers (``actors.control``).
    """
    return f"{camera['id']}  {camera['url']}  scene {camera['scene']}" + ("  paused" if camera["paused"] else "")
