"""Whether a camera's whole image has looked different for long enough to say so: light, weather, exposure, the lens.

What the whole image shares is no event (see ``Prediction.common_surprise``), but whoever reads the scores should know
that they are of footage unlike that of training. All durations are media time, so that a replay says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.alerts import Notice
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.notices import begun, over
from pipeline.scoring.smoothed import smoothed
from pipeline.scoring.smoothing import CausalSmoother, SmootherState
from pipeline.scoring.spread import spread_of
from pipeline.types import FrameHeader

_SMOOTHING_S = 2.0  # long for what passes close by, short for the light
_SPREADS = 3.0
_LEAST_MARGIN = 1.0
_LEAST_FOOTAGE_S = 10.0
_FRAMES = 4  # a duration has that many frames after its first, however long the pauses between frames are
_REST_S = 600.0  # from one change that was said to the next
_LEAST_SETTLING_S = 1.0  # cameras take that long to find their exposure
_TIME_CONSTANTS = 5.0  # after so many, less than a hundredth of what was smoothed is left
_REGAINED = 0.1  # of the time for which the light is normal; by so much less has been paused

_SAID = "the whole image has looked different for {:g} s: light, weather, exposure or a dirty lens"
_PAUSED = "; no event opens meanwhile, for {:g} s at most"


@dataclass(slots=True)
class LightState:
    """All that a ``LightMonitor`` remembers.

    Attributes:
        smoother: of the common surprise.
        since_at_s: Unix time at which the change began that was said last and lasts; None where none lasts.
        turned_s: for how long the smoothed common surprise has belied what was said last; None where it does not.
        turned_at_s: Unix time at which it began to.
        rest_s: for how long no further change is said.
        unsettled_s: for how long what was smoothed while the image looked different may last.
        paused_s: for how long alarms have been paused, less a tenth of the time since.
    """

    smoother: SmootherState = field(default_factory=SmootherState)
    since_at_s: float | None = None
    turned_s: float | None = None
    turned_at_s: float = 0.0
    rest_s: float = 0.0
    unsettled_s: float = 0.0
    paused_s: float = 0.0


class LightMonitor:
    """Says once that the whole image of a camera looks different, and once that it does no longer.

    It does once the smoothed common surprise has been at or above the threshold for ``after_s``, and no longer once it
    has been below for as long, over sessions too. A pause between two frames counts for at most a quarter of that,
    since nobody saw what was between them. Ten minutes at least lie between one change that is said and the next, so
    that passing clouds are not told one by one; a change that still lasts then is said then.

    It pauses alarms from the first frame whose raw common surprise is at the threshold until that has been below for
    ``settles_s``, but for ``pause_s`` at most, so that neither a sunset nor somebody with a lamp makes a camera blind
    for longer; a tenth of the time for which the light is normal is gained back.

    Args:
        camera_id: the camera.
        threshold: of the smoothed common surprise, see ``light_threshold``.
        after_s: how long a change is borne.
        pause_s: how long alarms are paused at most; 0 never pauses them.
        settles_s: how long scores take to forget what they were while the image looked different.
    """

    def __init__(
        self, camera_id: str, threshold: float, after_s: float, *, pause_s: float = 0.0, settles_s: float = 1.0
    ) -> None:
        self.state = LightState()
        """What it remembers; setting it goes on from there."""
        self._camera_id = camera_id
        self._threshold = threshold
        self._after_s = after_s
        self._pause_s = pause_s
        self._settles_s = settles_s
        self.pauses = False
        """Whether no event is to open at the last frame."""
        self._smoother = CausalSmoother(_SMOOTHING_S)

    def update(self, header: FrameHeader, common_surprise: float, now_s: float) -> list[Notice]:
        """Take in the camera's next frame.

        Args:
            header: of the frame; above all frames before it.
            common_surprise: of the frame; finite.
            now_s: Unix time.

        Returns:
            One notice or, mostly, none.
        """
        state, last = self.state, self.state.smoother
        elapsed_s = max(0.0, header.media_time_s - last.time_s) if header.session == last.session else 0.0
        self._pause(common_surprise, elapsed_s)
        self._smoother.state = last
        is_different = self._smoother.update(common_surprise, header.session, header.media_time_s) >= self._threshold
        state.smoother = self._smoother.state
        state.rest_s = max(0.0, state.rest_s - elapsed_s)
        if is_different == (state.since_at_s is not None):
            state.turned_s = None
            return []
        if state.turned_s is None:
            state.turned_s, state.turned_at_s = 0.0, header.captured_at_s
        else:
            state.turned_s += min(elapsed_s, self._after_s / _FRAMES)
        if state.turned_s < self._after_s:
            return []
        if not is_different:
            return end_light_change(self._camera_id, state, state.turned_at_s, now_s, "over")
        if state.rest_s > 0.0:
            return []
        state.since_at_s, state.turned_s, state.rest_s = state.turned_at_s, None, _REST_S
        said = _SAID.format(self._after_s) + (_PAUSED.format(self._pause_s) if self._pause_s > 0.0 else "")
        return [begun("light_changed", self._camera_id, state.since_at_s, said, now_s)]

    def _pause(self, common_surprise: float, elapsed_s: float) -> None:
        state = self.state
        if common_surprise >= self._threshold:
            state.unsettled_s = self._settles_s
        else:
            state.unsettled_s = max(0.0, state.unsettled_s - elapsed_s)
        self.pauses = state.unsettled_s > 0.0 and state.paused_s < self._pause_s
        if self.pauses:
            state.paused_s += elapsed_s
        elif state.unsettled_s == 0.0:
            state.paused_s = max(0.0, state.paused_s - _REGAINED * elapsed_s)


def end_light_change(camera_id: str, state: LightState, until_at_s: float, now_s: float, reason: str) -> list[Notice]:
    """End what was said last, if it lasts.

    Args:
        camera_id: the camera.
        state: where nothing lasts afterwards.
        until_at_s: Unix time at which it ended.
        now_s: Unix time.
        reason: why, one line.

    Returns:
        The notice of it; none where nothing lasted.
    """
    since_at_s, state.since_at_s, state.turned_s = state.since_at_s, None, None
    return over("light_changed", camera_id, since_at_s, until_at_s, reason, now_s)


def light_threshold(
    normal_common: Mapping[str, Sequence[Sequence[float]]], scene: str, fps: float, sample_fps: float | None
) -> float | None:
    """How high the smoothed common surprise must be to look different.

    It is the highest of the scene's held-out normal frames, smoothed alike, and a margin: three of their spreads, but
    at least 1, the unit of common surprise. The highest and no quantile, since light that was seen in normal footage is
    normal, however short it was seen. The least margin is for little footage: in a minute the light hardly changes, and
    the spread within it says nothing of what an hour brings.

    Args:
        normal_common: scene to its clips' common surprise, as the model card holds it.
        scene: the scene that the camera was trained as; where less than ten seconds of it were measured, those of all
            scenes together are taken.
        fps: frames per second of the sequences.
        sample_fps: frames per second the camera scores; None for all of them.

    Returns:
        None where less than ten seconds were measured of all scenes together: nobody can tell.
    """
    pooled = [clip for clips in normal_common.values() for clip in clips]
    for measured in (normal_common.get(scene, ()), pooled):
        if sum(map(len, measured)) >= _LEAST_FOOTAGE_S * fps:
            values = [np.array(clip, np.float64) for clip in measured]
            seen = smoothed([NormalStretch("own", fps, clip) for clip in values], sample_fps, _SMOOTHING_S)
            highest = max(float(stretch.scores.max()) for stretch in seen)
            return highest + max(_SPREADS * spread_of(np.concatenate(values)), _LEAST_MARGIN)
    return None


def settling_s(smoothing_s: float) -> float:
    """How long smoothed scores, and a camera's exposure, take to forget a change of light.

    Args:
        smoothing_s: time constant of the scores' smoothing.
    """
    return max(_LEAST_SETTLING_S, _TIME_CONSTANTS * smoothing_s)
