"""Values that pass between stages: frozen, free of torch, cheap to send between processes.

Three clocks, never mixed: media time (``pts * time_base``, seconds since the stream's own zero), Unix time (names that
end in ``_at_s``) and monotonic time (always passed in as ``now``, never stored here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

Suppressed = Literal["", "light", "still_there", "not_armed", "dismissed"]
DropReason = Literal[
    "sampling",
    "overload",
    "stale",
    "corrupt",
    "decode_error",
    "not_finite",
    "quarantined",
    "camera_lost",
    "detector_lost",
    "shutdown",
]
"""Why a frame was not scored; docs/architecture.md says who counts which."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Which frame this is. Ordered within a camera by ``(session, index)``.

    Attributes:
        camera_id: the camera's id in the config (in a replay, the clip's name).
        session: number of the connection, starting at 0; +1 at every reconnect, since pts restarts.
        index: frames decoded in this session before this one; frames that were dropped leave gaps.
        pts: presentation time stamp in ticks of ``time_base``.
        time_base: seconds per tick.
        captured_at_s: Unix time at which the frame left the decoder.
        serial: frames of this camera that were dispatched to a detector before this one, over all sessions and
            processes; given when it is dispatched. A gap in what arrives at the scorer is a frame that was lost on its
            way.
        counter_id: of the frame counters by which the serial was given; on another node a live camera's serials begin
            anew, in others. Of a file the number of its session: wherever it is read, its serials are the same ones.
    """

    camera_id: str
    session: int
    index: int
    pts: int
    time_base: Fraction
    captured_at_s: float
    serial: int = 0
    counter_id: str = ""

    def __reduce__(self) -> tuple[type[FrameHeader], tuple[object, ...]]:
        # What a frozen class does by itself takes three times as long, and every frame is sent two times.
        fields = (self.camera_id, self.session, self.index, self.pts, self.time_base, self.captured_at_s, self.serial)
        return FrameHeader, (*fields, self.counter_id)

    @property
    def media_time_s(self) -> float:
        """Media time of the frame in seconds."""
        # To the last bit float(pts * time_base), whose fraction takes ten times as long to make.
        return self.pts * self.time_base.numerator / self.time_base.denominator

    @property
    def order(self) -> tuple[int, int]:
        """Key by which frames of one camera are ordered."""
        return (self.session, self.index)


@dataclass(frozen=True, slots=True)
class PreviousLuma:
    """The brightness of a frame that came shortly before another: with it they are a pair.

    Attributes:
        luma: uint8, shape (H, W), at the model's input size; (77 R + 150 G + 29 B + 128) >> 8 of the resized frame.
        gap_s: media time from this frame to the other, in seconds; positive.
    """

    luma: npt.NDArray[np.uint8]
    gap_s: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame at the model's input size.

    Attributes:
        header: which frame this is.
        image: uint8, shape (H, W, 3), RGB.
        previous: the other half of its pair, of the same session; None where no frame came shortly before it.
    """

    header: FrameHeader
    image: npt.NDArray[np.uint8]
    previous: PreviousLuma | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame that was dispatched and will not be scored.

    Attributes:
        header: which frame this is.
        reason: why.
    """

    header: FrameHeader
    reason: DropReason


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of any cameras, stacked into arrays so that they cross a process border as few objects.

    Attributes:
        headers: B headers, in the order of ``images``.
        images: uint8, shape (B, H, W, 3), RGB.
        previous_luma: uint8, shape (B, H, W): of each frame's pair; zeros for a frame without one.
        gaps_s: float32, shape (B,): seconds between the frames of each pair; 0 for a frame without one.
        dropped: frames that will not come, to be passed on before these.
    """

    headers: tuple[FrameHeader, ...]
    images: npt.NDArray[np.uint8]
    previous_luma: npt.NDArray[np.uint8]
    gaps_s: npt.NDArray[np.float32]
    dropped: tuple[Dropped, ...] = ()

    @classmethod
    def of(cls, frames: Sequence[Frame], dropped: Sequence[Dropped] = ()) -> FrameBatch:
        """Stack frames of one size; a lone frame's arrays are views of its own. Without frames H and W are 0."""
        headers = tuple(frame.header for frame in frames)
        if not frames:
            images, luma = np.empty((0, 0, 0, 3), np.uint8), np.empty((0, 0, 0), np.uint8)
            return cls(headers, images, luma, np.empty(0, np.float32), tuple(dropped))
        images = _stacked([frame.image for frame in frames])
        return cls(headers, images, *stack_previous([frame.previous for frame in frames], images), tuple(dropped))

    @classmethod
    def unpaired(cls, headers: tuple[FrameHeader, ...], images: npt.NDArray[np.uint8]) -> FrameBatch:
        """Frames without pairs, whose images are stacked already: uint8 (B, H, W, 3)."""
        return cls(headers, images, *stack_previous([None] * len(headers), images))

    def frames(self) -> list[Frame]:
        """The frames one by one, each with memory of its own: a slice would keep the whole batch's."""
        return [
            Frame(
                header,
                self._own(self.images, number),
                PreviousLuma(self._own(self.previous_luma, number), float(gap_s)) if gap_s else None,
            )
            for number, (header, gap_s) in enumerate(zip(self.headers, self.gaps_s, strict=True))
        ]

    def _own(self, arrays: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
        # A single frame is the whole of its array.
        return arrays[number] if len(self) == 1 else arrays[number].copy()

    def __len__(self) -> int:
        return len(self.headers)


def stack_previous(
    previous: Sequence[PreviousLuma | None], images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Other halves of pairs as ``FrameBatch`` holds them.

    Args:
        previous: of B frames.
        images: theirs, uint8 (B, H, W, 3).

    Returns:
        ``previous_luma``, uint8 (B, H, W), and ``gaps_s``, float32 (B,).
    """
    nothing = np.zeros(images.shape[1:3], np.uint8)
    luma = [nothing if pair is None else pair.luma for pair in previous]
    gaps_s = np.array([0.0 if pair is None else pair.gap_s for pair in previous], np.float32)
    return _stacked(luma) if luma else np.empty((0, *nothing.shape), np.uint8), gaps_s


def _stacked(arrays: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """At least one array (...) as one array (B, ...); a view of it where there is only one."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector says of one frame.

    Attributes:
        header: which frame this is.
        anomaly_score: higher is more anomalous; unbounded.
        anomaly_map: float16, shape (h, w), or None where maps are not wanted.
        paired: whether the frame had a pair, so that motion was seen; without one its appearance alone was scored.
        common_surprise: the part of its surprise that the whole image shares (median of the anomaly map, in units of
            the spread of normal frames): the light or the camera, not an event.
        motion_share: of the cells that its score was read off, the part in which motion stood out more than appearance,
            0 to 1.
    """

    header: FrameHeader
    anomaly_score: float
    anomaly_map: npt.NDArray[np.float16] | None = None
    paired: bool = False
    common_surprise: float = 0.0
    motion_share: float = 0.0

    def __reduce__(self) -> tuple[type[Prediction], tuple[object, ...]]:
        # As of FrameHeader.
        fields = (self.header, self.anomaly_score, self.anomaly_map, self.paired, self.common_surprise)
        return Prediction, (*fields, self.motion_share)


@dataclass(frozen=True, slots=True)
class Score:
    """A prediction set against the camera's normal footage: what is written to Redis and Parquet.

    Attributes:
        header: which frame this is.
        anomaly_score: as the detector gave it; of a frame without a pair, on the scale of those with one where the two
            are calibrated apart.
        smoothed_score: the anomaly scores of the session so far, smoothed; what the threshold is held against.
        p_value: in (0, 1]; how often normal footage scores at least as high.
        threshold: smoothed scores at or above it are anomalous.
        scored_at_s: Unix time of the scoring.
        latency_s: ``scored_at_s - header.captured_at_s``.
        event_id: of the event that was open and that this frame is an active part of (its smoothed score is at or
            above the close threshold), or None. The frames with which an event began carry none: it opened after them.
        event_start_s: media time of that event's first frame, or None.
        anomaly_map: float16, shape (h, w), or None.
        paired: as the detector gave it.
        common_surprise: as the detector gave it.
        model: fingerprint of the model that made the prediction and whose normal footage it was set against.
        thresholds: version of the camera's thresholds.
        close_threshold: a smoothed score at or above it, in a frame such as this, keeps an event open.
        withheld: names of the sinks that had not been told of the event when the frame was scored.
        event_stretch: which stretch of that event the frame is of, from 1: an event that had ended may go on; or None.
        suppressed: why the frame, though anomalous, could open no event: the light had just changed (``light``), what
            it shows was told and stays (``still_there``), the camera was not armed or its like was dismissed; empty
            where it could, or is not anomalous.
    """

    header: FrameHeader
    anomaly_score: float
    smoothed_score: float
    p_value: float
    threshold: float
    scored_at_s: float
    latency_s: float
    event_id: str | None = None
    event_start_s: float | None = None
    anomaly_map: npt.NDArray[np.float16] | None = None
    paired: bool = False
    common_surprise: float = 0.0
    model: str = ""
    thresholds: str = ""
    close_threshold: float = 0.0
    withheld: tuple[str, ...] = ()
    event_stretch: int | None = None
    suppressed: Suppressed = ""

    @property
    def is_anomalous(self) -> bool:
        """Whether the smoothed score reached the threshold."""
        return self.smoothed_score >= self.threshold


@dataclass(frozen=True, slots=True)
class SceneReference:
    """What a camera's scene looked like in training, by which a camera that was turned or covered is noticed.

    Attributes:
        grid: (rows, columns) of cells.
        edges: one picture of where the scene's edges are for every light it was seen in: ``grid`` int8 values, row by
            row, as base64.
        own_agreement: lowest agreement of the scene's own footage with it; at most 1.
        turned_agreement: highest agreement of the scene with itself shifted by a little.
        sharpness: lowest of its own footage; fine detail relative to coarse.
        light: brightness that a twentieth of the picture reached in the darkest footage; 0 to 255.
        telling: whether it has structure enough, and was seen for long enough, to notice that the camera moved.
    """

    grid: tuple[int, int]
    edges: tuple[str, ...]
    own_agreement: float
    turned_agreement: float
    sharpness: float
    light: float
    telling: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong at present, beside single cameras.

    Attributes:
        key: names it; the same one while only details of the text change, so that it is shown once.
        text: one line without credentials.
    """

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """The counts of one camera: ``decoded = scored + sum(dropped)`` once nothing is in flight.

    Attributes:
        decoded: frames that came, those that arrived damaged (``corrupt``, ``decode_error``) included.
        scored: frames whose score was written.
        dropped: frames that will never be scored, by reason; reasons with no frames are absent.
    """

    decoded: int
    scored: int
    dropped: dict[str, int]

    @property
    def in_flight(self) -> int:
        """Frames decoded and neither scored nor dropped yet."""
        return self.decoded - self.scored - sum(self.dropped.values())
