"""Tables of how a run went and how well it scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_MILLISECONDS = 1000.0


def _number(value: float | None, unit: float = 1.0, digits: int = 1) -> str:
    return "-" if value is None else f"{value * unit:,.{digits}f}"


def cameras_table(statuses: Iterable[Mapping[str, Any]], title: str) -> Table:
    """One row per camera: its books, its speed and its events.

    Args:
        statuses: as ``CameraStatus.as_json`` gives them.
        title: above the table.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("camera", no_wrap=True)
    table.add_column("state")
    for heading in ("decoded", "scored", "dropped", "fps", "p50 ms", "p99 ms", "events"):
        table.add_column(heading, justify="right")
    for status in statuses:
        dropped = status["dropped"]
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
        table.add_row(
            Text(status["camera_id"]),
            status["state"],
            f"{status['decoded']:,}",
            f"{status['scored']:,}",
            f"{sum(dropped.values()):,}" + (f" ({reasons})" if reasons else ""),
            _number(status["scored_fps"]),
            _number(status["latency_p50_s"], _MILLISECONDS, 0),
            _number(status["latency_p99_s"], _MILLISECONDS, 0),
            str(status["events"]),
        )
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


def alert_line(alert: Mapping[str, Any]) -> Text:
    """One alert as one line.

    Args:
        alert: as ``pipeline.sinks.redis_reader`` gives it.
    """
    kind = alert["kind"]
    style = {"new": "bold red", "update": "yellow", "end": "green"}.get(kind, "")
    line = Text(f"{kind:<6}", style=style)
    line.append(f" {alert['camera_id']}  {alert['event_id']}")
    line.append(f"  from {alert['start_s']:.1f} s")
    if alert.get("end_s") is not None:
        line.append(f" to {alert['end_s']:.1f} s")
    line.append(f"  peak {alert['peak_score']:.4g} (threshold {alert['threshold']:.4g})")
    return line


def camera_faults(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for everything that was wrong with a camera's stream."""
    lines = []
    for status in statuses:
        if status["error"]:
            lines.append(status["error"])
        if status["missing"]:
            promised = status["decoded"] + status["missing"]
            lines.append(
                f"camera {status['camera_id']}: the file promises {promised} frames, {status['missing']} of them never "
                f"came; {status['scored']} were scored"
            )
        elif status["corrupt_packets"]:
            lines.append(f"camera {status['camera_id']}: {status['corrupt_packets']} packets could not be decoded")
    return lines
