"""The books: what became of every decoded frame, put together from what each process counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipeline.types import FrameAccount


def merge_account(decoded: int, scored: int, *dropped: Mapping[str, int]) -> FrameAccount:
    """One camera's books from the counts of its decoder, its detector and its scorer."""
    total: Counter[str] = Counter()
    for counts in dropped:
        total.update(counts)
    return FrameAccount(decoded=decoded, scored=scored, dropped={k: n for k, n in sorted(total.items()) if n})


class Settlement:
    """Decides when a camera whose decoder ended is settled.

    A camera is settled once none of its frames is in flight. Frames that vanished (a process died with them) would keep
    it open for ever: when its books have not moved for ``patience_s``, what is in flight is written off.

    Args:
        patience_s: longest silence of the books before frames in flight are given up.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._last: FrameAccount | None = None
        self._moved_at: float | None = None
        self.written_off = 0

    def settled(self, account: FrameAccount, ended: bool, now: float) -> bool:
        """Whether the camera is done.

        Args:
            account: its books as of now, without what was written off here.
            ended: whether its decoder has ended for good.
            now: monotonic time in seconds.
        """
        if account != self._last or self._moved_at is None:
            self._last, self._moved_at = account, now
        if not ended:
            return False
        if account.in_flight > 0 and now - self._moved_at >= self._patience_s:
            self.written_off = account.in_flight
        return account.in_flight - self.written_off == 0
