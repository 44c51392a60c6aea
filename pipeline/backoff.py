"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Exponential backoff with full jitter, so that those who failed together do not return together.

    The n-th wait is drawn evenly from [0, min(cap, base * 2^n)] (AWS Architecture Blog, "Exponential Backoff And
    Jitter", 2015), but never below ``base``.

    Args:
        base_s: lower bound of every wait.
        cap_s: upper bound of every wait.
        seed: of the jitter.
    """

    def __init__(self, base_s: float = 0.25, cap_s: float = 15.0, seed: int | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0
        self._random = random.Random(seed)

    def failed(self) -> float:
        """Count a failure; returns seconds to wait before the next try."""
        self._failures = min(self._failures + 1, 32)
        ceiling_s = min(self._cap_s, self._base_s * 2.0**self._failures)
        return max(self._base_s, self._random.uniform(0.0, ceiling_s))

    def succeeded(self) -> None:
        """Forget earlier failures."""
        self._failures = 0
