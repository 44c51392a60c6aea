"""Which alerts a sink is told of, which are withheld from it, and what it is told of those later.

Pure: what was told of a camera goes in and comes out, and time is what the alerts say, so that a decision that is made
again, because the process died before it was kept, is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.alerts import Alert, AlertKind, Digest, Event, Notice, NoticeKind, Severity
from pipeline.model_settings import Settings

RANKS: Mapping[Severity, int] = {"low": 0, "medium": 1, "high": 2}
"""Severities in their order."""

_REMEMBERED = 8  # of a camera's events, which never overlap: pictures of one may come after it, and it may go on
_NEVER = -1

Seconds = Annotated[float, Field(ge=0.0, le=31 * 86_400.0)]
Glob = Annotated[str, Field(min_length=1, max_length=200)]


class OnlySettings(Settings):
    """What a sink is told of; a key that is left out lets everything pass.

    Attributes:
        cameras: patterns of their ids, ``*`` and ``?`` as in file names; of notices about cameras, too.
        zones: names, or patterns of names, of the watched zones in which an event is; an event outside all is none of
            them.
        severity: the lowest that is told.
        kinds: of alerts about events. The first that a sink is told of an event counts as ``new``, whatever it is.
    """

    cameras: Annotated[tuple[Glob, ...], Field(min_length=1)] | None = None
    zones: Annotated[tuple[Glob, ...], Field(min_length=1)] | None = None
    severity: Severity = "low"
    kinds: Annotated[tuple[AlertKind, ...], Field(min_length=1)] | None = None

    def wants_camera(self, camera_id: str) -> bool:
        """Whether anything of a camera is told."""
        return self.cameras is None or _matches(camera_id, self.cameras)

    def wants_event(self, event: Event) -> bool:
        """Whether an event, as it stands, is one to be told of."""
        in_zone = self.zones is None or (event.zone is not None and _matches(event.zone, self.zones))
        return in_zone and RANKS[event.severity] >= RANKS[self.severity] and self.wants_camera(event.camera_id)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Events for the next digest.

    Attributes:
        since_at_s: Unix time at which the first of them began.
        newest: as it stands; it may become one that is told after all, and is None then.
        others: how many more.
        highest: the most unusual of the others.
    """

    since_at_s: float
    newest: Event | None
    others: int = 0
    highest: Event | None = None

    @property
    def events(self) -> int:
        """How many they are."""
        return self.others + (self.newest is not None)

    def and_then(self, event: Event) -> Gathered:
        """With one event more."""
        if self.newest is None:
            return replace(self, newest=event)
        return replace(self, newest=event, others=self.others + 1, highest=self.most_unusual())

    def most_unusual(self) -> Event | None:
        """Of all of them; of equals the first. None where there are none."""
        found = [event for event in (self.highest, self.newest) if event is not None]
        return max(found, key=_unusual, default=None)


@dataclass(frozen=True, slots=True)
class Told:
    """What a sink was told of a camera: all that decisions depend on.

    Attributes:
        at_s: Unix time at which it was first told of its newest event.
        rank: severity of that event, as it was last told; below all others before the first.
        admitted: ids of the newest events that it is told of.
        refused: ids of the newest events that it is not told of, though it wants such.
        gathered: for the next digest; None where there is nothing for one.
    """

    at_s: float = 0.0
    rank: int = _NEVER
    admitted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    gathered: Gathered | None = None

    def as_json(self) -> str:
        """One line of JSON."""
        return _TOLD.dump_json(self).decode()

    @classmethod
    def of_json(cls, text: str) -> Told:
        """Read what ``as_json`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            return _TOLD.validate_json(text)
        except ValidationError as error:
            raise ValueError(f"expected what a sink was told of a camera, got {text[:80]!r}") from error


_TOLD = TypeAdapter(Told)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an alert.

    Attributes:
        is_delivered: whether the sink gets it.
        told: of its camera, from now on.
    """

    is_delivered: bool
    told: Told = field(default_factory=Told)


class DeliveryRules(Settings):
    """Rules of one sink; the settings of a sink that has rules are such.

    Attributes:
        only: what it is told of.
        cooldown_s: after an event of a camera was told, seconds for which further ones are not.
        digest_s: likewise; and these are told at the end of that time, in one digest. 0 tells no digests.
        notices: which notices it is told of: all, none, or these kinds.
    """

    only: OnlySettings = OnlySettings()
    cooldown_s: Seconds = 0.0
    digest_s: Seconds = 0.0
    notices: bool | tuple[NoticeKind, ...] = True

    @property
    def withhold_nothing(self) -> bool:
        """Whether the sink is simply told of everything."""
        return self.only == OnlySettings() and self.notices is True and not (self.cooldown_s or self.digest_s)

    def wants_notice(self, notice: Notice) -> bool:
        """Whether a notice is told."""
        wanted = notice.kind in self.notices if isinstance(self.notices, tuple) else self.notices
        return wanted and (notice.camera_id is None or self.only.wants_camera(notice.camera_id))

    def decide(self, told: Told, alert: Alert) -> Decision:
        """Whether an alert is delivered.

        An event is asked about until it is one to be told of: it may become more severe, or come into a zone. Then it
        is told of to its end, or, soon after another one, not at all, unless it becomes more severe than that one.

        Args:
            told: of its camera.
            alert: above all before it.
        """
        event, rank = alert.event, RANKS[alert.event.severity]
        if event.event_id in told.admitted:
            told = replace(told, rank=max(rank, told.rank)) if event.event_id == told.admitted[-1] else told
            return Decision(self._wants(alert.kind), told)
        if alert.kind == "evidence":
            return Decision(False, told)
        if event.event_id in told.refused:
            if rank <= told.rank:
                return Decision(False, _as_it_stands(told, event))
        elif not self.only.wants_event(event):
            return Decision(False, told)
        elif rank <= told.rank and _is_within(told, alert.emitted_at_s, max(self.cooldown_s, self.digest_s)):
            return Decision(False, self._refused(told, alert))
        return Decision(self._wants(alert.kind) or self._wants("new"), _admitted(told, alert, rank))

    def digest(self, told: Told, camera_id: str, now_s: float, *, at_once: bool = False) -> tuple[Digest | None, Told]:
        """The digest that is due, if one is, and what was told of the camera then.

        Args:
            told: of the camera.
            camera_id: the camera.
            now_s: Unix time.
            at_once: whether one that is to come later is due, too.
        """
        gathered, highest = told.gathered, told.gathered and told.gathered.most_unusual()
        if gathered is None or not (at_once or not _is_within(told, now_s, self.digest_s)):
            return None, told
        told = replace(told, gathered=None)
        if highest is None:
            return None, told
        # As if it had been made in time, whenever that is asked for.
        until_s = min(now_s, told.at_s + self.digest_s) if now_s >= told.at_s else now_s
        event_id = f"{camera_id}-digest-{round(gathered.since_at_s * 1000)}"
        return Digest(event_id, camera_id, gathered.events, gathered.since_at_s, until_s, highest, until_s), told

    def _wants(self, kind: AlertKind) -> bool:
        return self.only.kinds is None or kind in self.only.kinds

    def _refused(self, told: Told, alert: Alert) -> Told:
        event, gathered = alert.event, told.gathered
        if _is_within(told, alert.emitted_at_s, self.digest_s):
            gathered = Gathered(event.started_at_s, event) if gathered is None else gathered.and_then(event)
        return replace(told, refused=_remembered(told.refused, event.event_id), gathered=gathered)


def _is_within(told: Told, at_s: float, span_s: float) -> bool:
    """Whether a time is within a span of what was told last; a clock that was put back ends it, or it might never."""
    return told.rank != _NEVER and 0.0 <= at_s - told.at_s < span_s


def _admitted(told: Told, alert: Alert, rank: int) -> Told:
    """From now on the event is told of; if the next digest had it, it has it no more."""
    event_id, gathered = alert.event.event_id, told.gathered
    if gathered is not None and gathered.newest is not None and gathered.newest.event_id == event_id:
        gathered = replace(gathered, newest=None) if gathered.others else None
    refused = tuple(other for other in told.refused if other != event_id)
    return Told(alert.emitted_at_s, rank, _remembered(told.admitted, event_id), refused, gathered)


def _as_it_stands(told: Told, event: Event) -> Told:
    """An event that is not told of has changed; the next digest is to say how high it went."""
    gathered = told.gathered
    if gathered is None or gathered.newest is None or gathered.newest.event_id != event.event_id:
        return told
    return replace(told, gathered=replace(gathered, newest=event))


def _remembered(ids: tuple[str, ...], event_id: str) -> tuple[str, ...]:
    return (*ids, event_id)[-_REMEMBERED:]


def _unusual(event: Event) -> tuple[int, float, float]:
    return RANKS[event.severity], event.once_in_h or 0.0, event.peak_smoothed


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
