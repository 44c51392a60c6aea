"""When a camera counts as out of order, and what is said of it: once when it begins and once when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.alerts import Notice, NoticeKind
from pipeline.camera_settings import HealthSettings

_NOTICE_KINDS: dict[str, tuple[NoticeKind, str]] = {
    "frozen": ("camera_frozen", "identical frames for {}"),
    "dark": ("camera_dark", "next to no light for {}"),
    "moved": ("camera_moved", "the view has not matched the scene it was trained on for {}"),
}


@dataclass(frozen=True, slots=True)
class SavedHealth:
    """What is known of a live camera's health.

    Attributes:
        open: what is out of order, by condition, as it was said.
        seen_at_s: Unix time at which its newest frame was noticed; None before the first look.
        frame_at_s: Unix time of that frame, by its own node's clock; None before the first.
    """

    open: Mapping[str, Notice] = field(default_factory=dict[str, Notice])
    seen_at_s: float | None = None
    frame_at_s: float | None = None


class HealthTracker:
    """Watches one live camera through what its reader reports. Pure: no clock of its own.

    Args:
        camera_id: the camera.
        settings: how long each condition is borne, from the first ``update`` on.
        saved: what was known before.
    """

    def __init__(self, camera_id: str, settings: HealthSettings, saved: SavedHealth | None = None) -> None:
        saved = saved or SavedHealth()
        self._camera_id = camera_id
        self._settings = settings
        self._seen_at_s = saved.seen_at_s
        self._frame_at_s = saved.frame_at_s  # what was said of the newest frame
        self._open = dict(saved.open)

    @property
    def conditions(self) -> frozenset[str]:
        """What is out of order: ``offline``, ``frozen``, ``dark``, ``moved``."""
        return frozenset(self._open)

    def saved(self) -> SavedHealth:
        """All of it, to be gone on from."""
        return SavedHealth(dict(self._open), self._seen_at_s, self._frame_at_s)

    def update(
        self, *, last_frame_at_s: float | None, conditions: Iterable[str], error: str, paused: bool, now_s: float
    ) -> list[Notice]:
        """Take in how the camera stands.

        Args:
            last_frame_at_s: Unix time of the newest frame; None before the first.
            conditions: what the picture shows, of ``frozen``, ``dark``, ``moved``.
            error: why the stream failed last; empty when all is well.
            paused: whether nobody wants frames of it at present.
            now_s: Unix time.

        Returns:
            Notices, in the order in which they are to be emitted; mostly none.
        """
        if paused:
            self._seen_at_s = now_s
            return self.finish("the camera was paused", now_s)
        notices: list[Notice] = []
        # By this clock alone, and by whether another frame came, not a later one: a camera's node may have another
        # time, and a clock may be set back.
        came = last_frame_at_s not in {None, self._frame_at_s}
        if came:
            self._frame_at_s = last_frame_at_s
        seen_at_s = self._seen_at_s = now_s if came or self._seen_at_s is None else min(self._seen_at_s, now_s)
        silent_s = now_s - seen_at_s
        limit_s = self._settings.offline_s
        if limit_s is not None and silent_s >= limit_s and "offline" not in self._open:
            reason = f"{error or 'no frames come'} (no frame for {silent_s:.0f} s)"
            notices.append(self._begin("offline", "camera_offline", reason, seen_at_s, now_s))
        elif came and "offline" in self._open:
            notices.append(self._end("offline", "frames come again", now_s, kind="camera_online"))
        for name in sorted(set(conditions) - self._open.keys()):
            kind, said = _NOTICE_KINDS[name]
            limit_s = getattr(self._settings, f"{name}_s") or 0.0
            notices.append(self._begin(name, kind, said.format(f"{limit_s:g} s"), now_s - limit_s, now_s))
        for name in sorted(self._open.keys() - {"offline"} - set(conditions)):
            notices.append(self._end(name, "over", now_s))
        return notices

    def finish(self, reason: str, now_s: float) -> list[Notice]:
        """End all that is open: nobody watches the camera any more. An outage that ends so is no return: no ``online``.

        Args:
            reason: why.
            now_s: Unix time.
        """
        return [self._end(name, reason, now_s) for name in sorted(self._open)]

    def _begin(self, name: str, kind: NoticeKind, reason: str, since_s: float, now_s: float) -> Notice:
        event_id = f"{self._camera_id}-{name}-{round(now_s * 1000)}"
        notice = Notice(kind, event_id, self._camera_id, reason, since_s, None, now_s)
        self._open[name] = notice
        return notice

    def _end(self, name: str, reason: str, now_s: float, kind: NoticeKind | None = None) -> Notice:
        begun = self._open.pop(name)
        until_at_s = max(now_s, begun.since_at_s)
        return replace(begun, kind=kind or begun.kind, reason=reason, until_at_s=until_at_s, emitted_at_s=now_s)
