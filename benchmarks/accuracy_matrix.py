"""What ``benchmarks.accuracy`` measured, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.accuracy_sets import AccuracySet

Evaluated = Mapping[str, Any]
"""What ``evaluate`` writes as JSON."""

Found = Mapping[str, Mapping[int, Evaluated]]
"""What was found, by set and seed."""

_AUROCS = {
    "frame AUROC": "frame_auroc",
    "causal": "frame_auroc_causal",
    "as published (not live)": "frame_auroc_as_published",
    "pixel AUROC": "pixel_auroc",
    "AUPRO @0.3": "aupro",
}
_COUNTS = {
    "events": "events",
    "false": "false_events",
    "anomalies found": "anomalies_found",
    "delay s": "delay_median_s",
}
COLUMNS = ("set", *_AUROCS, "normal above threshold", *_COUNTS)
"""Headings of the matrix."""


def matrix(found: Found) -> str:
    """A Markdown table: a row per set, and below it what the set's labels alone reach."""
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1))]
    for name, by_seed in found.items():
        evaluated = list(by_seed.values())
        rows += [(f"{name} ({len(evaluated)})", *_cells(evaluated)), ("floor", *_floors(evaluated[0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def events_lines(sets: Sequence[AccuracySet], found: Found) -> Iterator[str]:
    """Every event of the sets that have one clip, and when the one that was waited for opened."""
    for of in sets:
        for seed, evaluated in found[of.name].items():
            if len(evaluated["per_clip"]) > 1:
                continue
            (clip,) = evaluated["per_clip"].values()
            events = clip["events"]
            told = ", ".join(f"{event['opened']} to {event['last']}" for event in events) or "none"
            line = f"{of.name}, seed {seed}: events open in frames {told} of {clip['frames']}"
            if of.quiet_before is not None:
                early = sum(event["opened"] < of.quiet_before for event in events)
                line += f"; {early} before {of.quiet_before}"
            if of.left_at is not None:
                opened = open_from(events, of.left_at)
                line += f"; from {of.left_at} on open at {'none' if opened is None else opened}"
            yield line


def open_from(events: Sequence[Mapping[str, Any]], frame: int) -> int | None:
    """The first frame, from one on, in which an event is open; None where none is any more."""
    return min((max(event["opened"], frame) for event in events if event["last"] >= frame), default=None)


def _cells(evaluated: Sequence[Evaluated]) -> list[str]:
    alarms = [one["alarms"] for one in evaluated]
    return [
        *(_spread([one[key] for one in evaluated], "{:.3f}") for key in _AUROCS.values()),
        _spread([_percent(one["normal_above_threshold"]) for one in alarms], "{:.1f}") + " %",
        *(_spread([one[key] for one in alarms], "{:.3g}") for key in _COUNTS.values()),
    ]


def _floors(evaluated: Evaluated) -> list[str]:
    """The best that the labels alone reach, of each metric that has a floor, and how many anomalies there are."""
    floors = evaluated["floors"]
    best = [
        max((value for value in floors[key].values() if value is not None), default=None) for key in _AUROCS.values()
    ]
    of_counts = {"anomalies_found": f"of {evaluated['alarms']['anomalies']}"}
    return [
        *(_spread([value], "{:.3f}") for value in best),
        "",
        *(of_counts.get(key, "") for key in _COUNTS.values()),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _spread(values: Sequence[float | None], form: str) -> str:
    """Mean of several seeds, with the lowest and the highest; a dash where one has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    mean = form.format(fmean(known))
    return mean if len(known) == 1 else f"{mean} ({form.format(min(known))} to {form.format(max(known))})"
