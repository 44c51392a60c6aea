"""Keeping a camera's frames in order: what comes late or twice is turned away, never sorted in afterwards."""

from __future__ import annotations


class OrderGate:
    """Lets a frame through only when it is above every frame before it.

    Smoothing and events are causal, so a frame that comes late can no longer be used; and the same frame, sent again by
    a restarted peer, must not count twice.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    @property
    def last(self) -> tuple[int, int] | None:
        """(session, index) of the last frame let through, or None before the first."""
        return self._last

    def accepts(self, order: tuple[int, int]) -> bool:
        """Whether a frame is next; if so it becomes the last one.

        Args:
            order: the frame's (session, index).
        """
        if self._last is not None and order <= self._last:
            return False
        self._last = order
        return True
