"""What is said of a camera once when a condition begins, and once when it ends."""

from __future__ import annotations

from dataclasses import replace

from pipeline.alerts import Notice, NoticeKind


def begun(kind: NoticeKind, camera_id: str, since_at_s: float, reason: str, now_s: float) -> Notice:
    """The notice of a condition; the same condition gives the same id.

    Args:
        kind: what it is.
        camera_id: the camera.
        since_at_s: Unix time at which it began.
        reason: why, one line.
        now_s: Unix time.
    """
    return Notice(kind, f"{camera_id}-{kind}-{round(since_at_s * 1000)}", camera_id, reason, since_at_s, None, now_s)


def over(
    kind: NoticeKind, camera_id: str, since_at_s: float | None, until_at_s: float, reason: str, now_s: float
) -> list[Notice]:
    """The notice of its end; none where nothing lasted.

    Args:
        kind: as of ``begun``.
        camera_id: the camera.
        since_at_s: Unix time at which it began; None where nothing lasts.
        until_at_s: Unix time at which it ended.
        reason: why, one line.
        now_s: Unix time.
    """
    if since_at_s is None:
        return []
    return [replace(begun(kind, camera_id, since_at_s, reason, now_s), until_at_s=max(until_at_s, since_at_s))]
