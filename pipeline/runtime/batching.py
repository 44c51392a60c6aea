"""When a batch is closed: full, or its oldest frame has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Close by size or age, whichever comes first.

    Attributes:
        max_frames: frames in a batch at most.
        max_wait_s: longest time a frame waits for company.
    """

    max_frames: int
    max_wait_s: float

    def patience_s(self, waiting: int, oldest_age_s: float) -> float:
        """How much longer to wait before the batch is closed; 0 or less means now.

        Args:
            waiting: frames that could go into the batch.
            oldest_age_s: how long the oldest of them has waited.
        """
        if waiting >= self.max_frames:
            return 0.0
        return self.max_wait_s - oldest_age_s
