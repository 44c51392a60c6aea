"""Frames with and without a pair on one scale: how scores of the latter are put on that of the former."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = (0.1, 10.0)  # beyond that, too little footage was held out to tell how the two kinds vary


@dataclass(frozen=True, slots=True)
class Alignment:
    r"""Puts the scores of frames without a pair, whose motion nobody saw, on the scale of frames with one.

    .. math:: s' = t + u \, (s - t_0), \quad u = \frac{t - m}{t_0 - m_0}

    with :math:`t` and :math:`m` the threshold and the median of normal frames with a pair, :math:`t_0` and :math:`m_0`
    those of normal frames without one, all smoothed as the camera's frames are.

    So a camera has one scale and one threshold, whatever mix of frames it sends: what is smoothed, compared and drawn
    means one thing. A frame without a pair counts as anomalous exactly where its own threshold says so; and since
    smoothing commutes with a straight line, a camera that never has pairs has the very events that it would have if
    frames without a pair were all there is. Matching more quantiles than these two would bend the line, lose that, and
    rest on the few frames in the tail.

    Attributes:
        threshold: t.
        unpaired_threshold: t_0.
        unit: u; 1 where either kind does not vary.
    """

    threshold: float
    unpaired_threshold: float
    unit: float

    @classmethod
    def between(cls, threshold: float, median: float, unpaired_threshold: float, unpaired_median: float) -> Alignment:
        """The alignment of a camera.

        Args:
            threshold: of normal frames with a pair, smoothed.
            median: of the same.
            unpaired_threshold: of normal frames without a pair, smoothed.
            unpaired_median: of the same.
        """
        width, unpaired_width = threshold - median, unpaired_threshold - unpaired_median
        least, most = _UNITS
        unit = min(max(width / unpaired_width, least), most) if width and unpaired_width else 1.0
        return cls(threshold, unpaired_threshold, unit)

    def aligned(self, score: float) -> float:
        """A score of a frame without a pair, on the scale of frames with one; it may not be finite."""
        return self.threshold + self.unit * (score - self.unpaired_threshold)
