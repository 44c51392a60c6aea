"""How strong the condition is: as much of place and camera as the footage supports.

A condition multiplied by a strength from 0 (none: all places are one) to 1 (as in the paper) gives a family of models.
Flows that are to be adaptive learn all of it at once; held-out footage then says, per level, which member it supports.

What is asked is the likelihood of the *foreground*, the vectors that the model without a condition finds least likely:
any position predicts its background, so over all vectors the condition always wins; alarms depend on the rest. Frames
of one clip resemble each other, so what counts is the mean over independent pieces of footage. A condition must earn
its strength: the smallest is taken whose mean is within one standard error of the best one's (the one-standard-error
rule of Breiman, Friedman, Olshen and Stone, 1984). A camera of which few pieces were held out so gets none, one of
which days were recorded gets what they show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipeline.models.cflow import CFlow
from pipeline.training.features import ClipFeatures
from pipeline.training.holdout import Part
from pipeline.training.workers import ALONE, Workers

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
"""Among these is chosen; weights times a power of two stay exact in float16."""

_FOREGROUND = 0.05  # of the held-out vectors of a scene
_PIECE_S = 60.0  # what lies further apart in a clip counts as independent
_PIECES_PER_SCENE = 2  # on average: fewer have no standard error
_FRAMES = 512  # at most about as many are asked, evenly over all pieces, so that it stays a matter of a minute


def draw_strengths(count: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Strengths for frames to learn from: a quarter 0, a quarter 1, the rest uniform; float32, shape (count,)."""
    return np.clip(2.0 * random.random(count) - 0.5, 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Piece:
    """Held-out frames that are independent of those of other pieces: of a clip, or of a minute of a longer one.

    Attributes:
        clip: whose frames they are.
        frames: their numbers in it, rising.
    """

    clip: ClipFeatures
    frames: npt.NDArray[np.int64]


def independent_pieces(clips: Sequence[ClipFeatures], heldout: Sequence[Part]) -> list[Piece]:
    """Cut held-out footage into pieces; of each, some frames are taken, evenly spread, where there are many.

    Args:
        clips: features of the normal footage.
        heldout: the held-out frames.
    """
    frames_of: dict[int, list[int]] = {}
    for clip, frames in heldout:
        frames_of.setdefault(clip, []).extend(frames)
    parts = [(clips[clip], part) for clip, frames in frames_of.items() for part in _minutes(frames, clips[clip].fps)]
    each = math.ceil(_FRAMES / max(1, len(parts)))
    return [Piece(clip, part[np.unique(np.linspace(0, len(part) - 1, each).astype(int))]) for clip, part in parts]


def _minutes(frames: Sequence[int], fps: float) -> list[npt.NDArray[np.int64]]:
    """A clip's held-out frames, cut evenly by when they were filmed into pieces of a minute or longer."""
    every = np.sort(np.asarray(frames, dtype=np.int64))
    lasted = int(every[-1] - every[0]) + 1
    count = max(1, math.floor(lasted / (_PIECE_S * fps)))
    cuts = every[0] + np.arange(1, count) * lasted // count
    return [part for part in np.split(every, np.searchsorted(every, cuts)) if len(part)]


def choose_strengths(
    flows: CFlow, clips: Sequence[ClipFeatures], heldout: Sequence[Part], workers: Workers = ALONE
) -> dict[str, float]:
    """Choose the strength of every level's condition on held-out footage.

    Args:
        flows: fitted with strengths that were drawn, on the device to be used; left in evaluation mode.
        clips: features of the normal footage.
        heldout: the held-out frames.
        workers: that look at it together.

    Returns:
        One of ``STRENGTHS`` by the name of the level; nothing where the condition is not adaptive.
    """
    if flows.settings.flow.condition != "adaptive":
        return {}
    flows.eval()
    pieces = independent_pieces(clips, heldout)
    tells_cameras = flows.embedding is not None and len(flows.embedding.row_of) > 1
    scenes = {piece.clip.clip.scene for piece in pieces}
    if len(pieces) < _PIECES_PER_SCENE * len(scenes):  # nothing can be told: no need to look
        return dict.fromkeys(flows.settings.encoder.level_names, _unknown(tells_cameras))
    return {
        name: supported_strength(*foreground_likelihoods(flows, level, pieces, workers), tells_cameras=tells_cameras)
        for level, name in enumerate(flows.settings.encoder.level_names)
    }


def supported_strength(likelihoods: npt.NDArray[np.float64], scenes: Sequence[str], *, tells_cameras: bool) -> float:
    """The smallest strength that explains held-out footage within one standard error as well as the best.

    Scenes differ in how likely their footage is, whatever the strength, so the error is that within scenes: it takes
    two pieces of a scene on average to know it. Otherwise nothing can be told, and the condition must not be relied on.

    One model of several cameras is another matter: what one of them never saw is normal at the next. The embedding is
    how it tells them apart, so it keeps the least strength at least, and all of it where nothing can be told.

    Args:
        likelihoods: mean log-likelihood of each piece's foreground by strength; shape (strengths, pieces).
        scenes: of the pieces.
        tells_cameras: whether the condition says which of several cameras it is.

    Returns:
        One of ``STRENGTHS``.
    """
    unknown = _unknown(tells_cameras)
    names, scene_of = np.unique(np.asarray(scenes, dtype=str), return_inverse=True)
    pieces = len(scene_of)
    if not pieces or pieces < _PIECES_PER_SCENE * len(names):
        return unknown
    first = 1 if tells_cameras else 0
    means = likelihoods.mean(axis=1)[first:]
    best = likelihoods[first + np.argmax(means)]
    of_scene = np.bincount(scene_of, best) / np.bincount(scene_of)
    error = math.sqrt(float(np.square(best - of_scene[scene_of]).sum()) / (pieces - len(names)) / pieces)
    enough = np.flatnonzero(means >= means.max() - error)
    return STRENGTHS[first + enough[0]] if len(enough) else unknown  # nothing is as good as what is not finite


def _unknown(tells_cameras: bool) -> float:
    return 1.0 if tells_cameras else 0.0


@torch.inference_mode()
def foreground_likelihoods(
    flows: CFlow, level: int, pieces: Sequence[Piece], workers: Workers = ALONE
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Mean log-likelihood per dimension of each piece's foreground, by strength.

    Returns:
        Shape (strengths, pieces) in nats, and the scenes of these pieces: those that hold any of their scene's
        foreground.
    """
    own = workers.share([len(piece.frames) for piece in pieces], [piece.clip.holders for piece in pieces])
    own = np.flatnonzero(own == workers.rank).tolist()
    height, width = flows.sizes[level]
    bare = workers.merge(
        {
            at: np.stack([_likelihoods(flows, level, *one, STRENGTHS[:1])[0] for one in _frames(pieces[at])])
            for at in own
        },
        [(len(piece.frames), height * width) for piece in pieces],
        np.float32,
    )
    of_scene: dict[str, list[npt.NDArray[np.float32]]] = {}
    for piece, found in zip(pieces, bare, strict=True):
        of_scene.setdefault(piece.clip.clip.scene, []).append(found.ravel())
    limits = {scene: np.quantile(np.concatenate(found), _FOREGROUND) for scene, found in of_scene.items()}
    foregrounds = [found <= limits[piece.clip.clip.scene] for piece, found in zip(pieces, bare, strict=True)]
    shown = [at for at, foreground in enumerate(foregrounds) if foreground.any()]
    means: dict[int, npt.NDArray[np.float64]] = {}
    for turn, at in enumerate(shown):
        if at not in own:
            continue
        foreground = foregrounds[at]
        stronger = [
            _likelihoods(flows, level, *one, STRENGTHS[1:], positions=np.flatnonzero(chosen))
            for one, chosen in zip(_frames(pieces[at]), foreground, strict=True)
            if chosen.any()
        ]
        every = np.concatenate([bare[at][foreground][np.newaxis], np.concatenate(stronger, axis=1)])
        means[turn] = every.mean(axis=1, dtype=np.float64)
    found = workers.merge(means, [(len(STRENGTHS),)] * len(shown), np.float64)
    scenes = [pieces[at].clip.clip.scene for at in shown]
    return np.stack(found, axis=1) if found else np.empty((len(STRENGTHS), 0)), scenes


def _frames(piece: Piece) -> Iterator[tuple[ClipFeatures, int]]:
    return ((piece.clip, int(frame)) for frame in piece.frames)


def _likelihoods(
    flows: CFlow,
    level: int,
    clip: ClipFeatures,
    frame: int,
    strengths: Sequence[float],
    positions: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float32]:
    """Log-likelihoods per dimension of one frame's vectors, all or at some positions; shape (strengths, N)."""
    features = clip.levels[level][frame]
    at = np.arange(len(features)) if positions is None else positions
    device = flows.get_buffer(f"positions_{level}").device
    vectors = torch.from_numpy(features[at]).to(device).float()
    rows = flows.scene_rows([clip.clip.scene]).expand(len(at))
    conditions = flows.conditions(level, torch.from_numpy(at).to(device), rows.to(device))
    flow = flows.flow(level)
    return torch.stack([flow.log_likelihood(vectors, strength * conditions) for strength in strengths]).cpu().numpy()
