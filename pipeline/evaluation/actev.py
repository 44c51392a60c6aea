"""nAUDC@0.2TFA of NIST's ActEV: how many anomalies instances miss at how much time of false alarm. Free of torch.

Definitions of the ActEV evaluation plan as its scorer computes them (protocol ``ActEV_SDL_V2``), for one activity,
"anomalous". ``docs/evaluation.md`` says what an instance is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

TFA_LIMIT = 0.2
"""Share of the time without anomalies that may be false alarm: where the area ends."""

LEAST_OVERLAP_S = 1.0
"""Time that an instance must share with an anomaly to have found it; of a shorter anomaly half suffices."""

_LEAST_SHARE = 0.5
_ROUNDING_S = 1e-6

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Instance:
    """What a system says happened in a clip.

    Attributes:
        first: its first frame.
        last: its last frame.
        confidence: how sure; the instances at or above a confidence are what a threshold would let through.
    """

    first: int
    last: int
    confidence: float


@dataclass(frozen=True, slots=True)
class ClipInstances:
    """One clip's instances set beside its anomalies.

    Attributes:
        anomalies: how many.
        normal_s: time without any.
        confidences: of its instances, (N,).
        false_s: of each instance, the time in it that is no anomaly's, (N,).
        found_with: confidence of the instance that each found anomaly was given, one each.
    """

    anomalies: int
    normal_s: float
    confidences: FloatArray
    false_s: FloatArray
    found_with: FloatArray


def clip_instances(
    anomalies: Sequence[tuple[int, int]], instances: Sequence[Instance], durations_s: FloatArray
) -> ClipInstances:
    """Give each anomaly of a clip at most one instance.

    Of all ways to do so, the one with most pairs; of these the one with the highest confidences (Hungarian method).

    Args:
        anomalies: first and last frame of each; they do not overlap, and neither do instances.
        instances: of the clip.
        durations_s: how long each frame lasts, (T,).
    """
    edges = np.concatenate([[0.0], np.cumsum(durations_s)])
    anomalous = np.zeros(durations_s.size, dtype=bool)
    for first, last in anomalies:
        anomalous[first : last + 1] = True
    normal = np.concatenate([[0.0], np.cumsum(np.where(anomalous, 0.0, durations_s))])
    confidences = np.array([instance.confidence for instance in instances], dtype=np.float64)
    shared = np.array(
        [[_shared_s(edges, anomaly, (of.first, of.last)) for of in instances] for anomaly in anomalies]
    ).reshape(len(anomalies), len(instances))
    lengths = np.array([edges[last + 1] - edges[first] for first, last in anomalies])
    needed = np.where(lengths < LEAST_OVERLAP_S - _ROUNDING_S, _LEAST_SHARE * lengths, LEAST_OVERLAP_S)
    allowed = shared >= needed[:, None] - _ROUNDING_S
    # Ranks in place of confidences: below 1 together, so that no confidence is worth a pair.
    ranks = confidences.argsort().argsort() / max(1, confidences.size * min(allowed.shape))
    rows, columns = linear_sum_assignment(np.where(allowed, 1.0 + ranks, 0.0), maximize=True)
    paired = allowed[rows, columns]
    return ClipInstances(
        anomalies=len(anomalies),
        normal_s=float(normal[-1]),
        confidences=confidences,
        false_s=np.array([normal[of.last + 1] - normal[of.first] for of in instances], dtype=np.float64),
        found_with=confidences[columns[paired]],
    )


def naudc(clips: Sequence[ClipInstances], limit: float = TFA_LIMIT) -> float | None:
    """Normalised area under missed anomalies against time of false alarm, from 0 to ``limit``; 0 is perfect.

    At a confidence, instances at or above it count. Missed is the share of the anomalies that none of them was given,
    false alarm the time in them that is no anomaly's, over all time without anomalies.

    Args:
        clips: all clips.
        limit: where the area ends.

    Returns:
        The area divided by ``limit``, in [0, 1]; None without anomalies or without normal time.
    """
    anomalies, normal_s = sum(clip.anomalies for clip in clips), sum(clip.normal_s for clip in clips)
    if not anomalies or normal_s <= 0.0:
        return None
    confidences = np.concatenate([clip.confidences for clip in clips])
    order = np.argsort(-confidences, kind="stable")
    false_s = np.cumsum(np.concatenate([clip.false_s for clip in clips])[order])
    levels, last = np.unique(-confidences[order], return_index=True)  # from the surest on
    behind = np.append(last[1:], order.size)[: levels.size] - 1
    found = np.searchsorted(np.sort(-np.concatenate([clip.found_with for clip in clips])), levels, side="right")
    return area_below(false_s[behind] / normal_s, 1.0 - found / anomalies, limit) / limit


def missed_at(tfa: FloatArray, missed: FloatArray, at: FloatArray) -> FloatArray:
    """Share that is missed at given rates of false alarm, as ActEV's scorer reads it off a curve.

    Before the first point all is missed; at a rate that points have, it is the last of these; between points it is on a
    straight line, and behind the last it stays.

    Args:
        tfa: rates of the points, not falling, (N,).
        missed: share missed at each, not rising, (N,).
        at: rates asked for.
    """
    if not tfa.size:
        return np.ones_like(at)
    behind = np.searchsorted(tfa, at, side="right")  # the first point beyond
    before = np.maximum(behind - 1, 0)
    after = np.minimum(behind, tfa.size - 1)
    step = tfa[after] - tfa[before]
    share = np.divide(at - tfa[before], step, out=np.zeros_like(at), where=step > 0)
    return np.where(behind == 0, 1.0, missed[before] + share * (missed[after] - missed[before]))


def area_below(tfa: FloatArray, missed: FloatArray, limit: float) -> float:
    """Exact area under ``missed_at`` from 0 to ``limit``."""
    if not tfa.size or tfa[0] >= limit:
        return limit
    inside = tfa < limit
    rates = np.append(tfa[inside], limit)
    heights = np.append(missed[inside], missed_at(tfa, missed, np.array([np.nextafter(limit, 0.0)])))
    return float(tfa[0] + np.trapezoid(heights, rates))


def _shared_s(edges: FloatArray, one: tuple[int, int], other: tuple[int, int]) -> float:
    """Time that two stretches of frames share."""
    first, last = max(one[0], other[0]), min(one[1], other[1])
    return max(0.0, float(edges[last + 1] - edges[first])) if last >= first else 0.0
