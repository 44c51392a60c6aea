"""One alert or notice as one line, for somebody who was woken by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from pipeline.alert_words import event_in_words, number_of, time_in_words
from pipeline.console.tables import plain


def alert_line(alert: Mapping[str, Any]) -> Text:
    """One alert or notice as one line; of a kind that is not known, what any kind has.

    Args:
        alert: as ``pipeline.sinks.redis_reader`` gives it.
    """
    kind = plain(alert.get("kind"))
    is_over = kind == "end" or alert.get("until_at_s") is not None
    style = {"new": "bold red", "update": "yellow"}.get(kind, "green" if is_over else "magenta")
    line = Text(f"{time_in_words(alert)} ")
    line.append(f"{kind:<6}", style=style)
    line.append(f" {plain(alert.get('camera_id') or 'run')}")
    if kind == "evidence":
        told = [str(path) for path in (alert.get("picture"), alert.get("clip")) if path]
    else:
        told = [event_in_words(alert), str(alert.get("reason") or ""), _lasted(alert)]
    if any(told):
        line.append(f": {plain('; '.join(filter(None, told)))}")
    todo = "alerts dismiss " if kind == "new" else ""  # where it was nothing; whoever is woken need not look that up
    line.append(f"  {todo}{plain(alert.get('event_id'))}", style="dim")
    return line


def _lasted(alert: Mapping[str, Any]) -> str:
    since_at_s, until_at_s = number_of(alert.get("since_at_s")), number_of(alert.get("until_at_s"))
    return "" if since_at_s is None or until_at_s is None else f"after {until_at_s - since_at_s:.0f} s"
