"""From what a method sees in frames and how fast things move in them to the map that is shown, and to scores.

It is the same for every method. Two channels, appearance and motion, are each brought into one unit: 0 is what the most
unusual part of a normal frame comes to, and 1 is by how much that varies from frame to frame, so neither drowns the
other, whatever a camera sees of either. The score is read off the larger of the two at every cell: what is unusual in
one way need not be so in the other. The map that is shown is their sum, which places things better.

Light and exposure change the whole image at once, so the part of appearance that all of a frame shares (its median) is
taken off, as far as a change of light alone was seen to move what is read off (``ReadOutConstants.common_share``).

Where a camera has zones, a mask is laid on both maps last of all: what is left out is not read, and the top fraction is
one of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.errors import CheckpointError
from pipeline.models.anomaly_model import AnomalyMaps, rows_of
from pipeline.models.card import WEIGHTS_FILE, ChannelConstants, ModelCard, ReadOutConstants
from pipeline.models.masks import Mask, Masks
from pipeline.models.motion import CELL_PX, speed_maps
from pipeline.models.pairs import Pairs
from pipeline.models.score import frame_scores, top_cells
from pipeline.zoning import Regime

SPEED_SCALES = "read_out.speed_scales"
"""Name of the checkpoint's tensor that the read-out has beside its constants."""


def read_speed_scales(folder: Path) -> Tensor | None:
    """What a checkpoint's read-out measures speeds in, without reading the rest; None for a model without motion.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, "pt") as tensors:
            return tensors.get_tensor(SPEED_SCALES) if SPEED_SCALES in tensors.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: expected readable safetensors, got: {error}") from error


def load_read_out(folder: Path, card: ModelCard, device: torch.device) -> ReadOut:
    """The read-out of a checkpoint on a device.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or not what its card describes.
    """
    try:
        return ReadOut(card, read_speed_scales(folder)).requires_grad_(False).to(device)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: {error}") from error


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read off B frames, on the device.

    Attributes:
        shown: where the anomaly is, float32, shape (B, h, w).
        scores: anomaly scores, float32, shape (B,).
        common_surprise: what the whole image shares, in spreads of normal frames; float32, shape (B,).
        motion_share: of the cells that the score was read off, the part in which motion stood out more than appearance;
            float32, shape (B,).
        scored: what scores are read off, without the mask, float32, shape (B, h', w').
    """

    shown: Tensor
    scores: Tensor
    common_surprise: Tensor
    motion_share: Tensor
    scored: Tensor


class ReadOut(nn.Module):
    """A model's read-out, on one device.

    Args:
        card: of the model.
        speed_scales: of every scene and, last, of all together: what speeds are measured in at every cell, in heights
            of the image per second; float32, shape (S + 1, H / 8, W / 8). None for a model without motion.

    Raises:
        RuntimeError: the tensor is not the one that the card describes.
    """

    speed_scales: Tensor | None

    def __init__(self, card: ModelCard, speed_scales: Tensor | None) -> None:
        super().__init__()
        height, width = card.model.image_size_px
        cells = (len(card.scenes) + 1, height // CELL_PX, width // CELL_PX)
        expected = cells if card.read_out is not None and card.read_out.motion is not None else None
        got = None if speed_scales is None else tuple(speed_scales.shape)
        if got != expected:
            raise RuntimeError(f"{SPEED_SCALES}: expected shape {expected}, got {got}")
        if speed_scales is not None and speed_scales.dtype != torch.float32:
            raise RuntimeError(f"{SPEED_SCALES}: expected float32, got {speed_scales.dtype}")
        if speed_scales is not None and not (speed_scales.isfinite() & (speed_scales > 0.0)).all():
            raise RuntimeError(f"{SPEED_SCALES}: expected positive finite values, got others")
        self._constants, self._top_fraction = card.read_out, card.model.score.top_fraction
        self._row_of = {scene: row for row, scene in enumerate(card.scenes)}
        self.register_buffer("speed_scales", speed_scales)
        self._masks = Masks()

    def forward(
        self,
        maps: AnomalyMaps,
        images: Tensor,
        pairs: Pairs,
        scenes: Sequence[str],
        regimes: Sequence[Regime | None] | None = None,
    ) -> Reading:
        """Read B frames.

        Args:
            maps: what the method makes of them.
            images: uint8, shape (B, H, W, 3), on the device.
            pairs: of the same frames, on the device.
            scenes: of each frame; one that was not trained on has the speeds of all together.
            regimes: of each frame, the zones that hold; None, or no zones, is all of the image.
        """
        mask_of = None
        if regimes is not None and any(regime is not None and regime.zones for regime in regimes):
            mask_of = partial(self._masks.of, regimes)
        if self._constants is None:
            nothing = torch.zeros(len(images), device=images.device)
            return _read_off(maps.shown, maps.scored, nothing, self._top_fraction, mask_of)
        speeds = None
        if self.speed_scales is not None:
            rows = rows_of(scenes, self._row_of).to(images.device)
            speeds = speed_maps(images, pairs) / self.speed_scales[rows]
        return read(maps, speeds, pairs.gaps_s > 0.0, self._constants, self._top_fraction, mask_of)


MaskOf = Callable[[Tensor], Mask]
"""Maps of the frames of a batch, of any size -> the masks to be laid on them."""


def read(
    maps: AnomalyMaps,
    speeds: Tensor | None,
    paired: Tensor,
    constants: ReadOutConstants,
    top_fraction: float,
    mask_of: MaskOf | None = None,
) -> Reading:
    """Bring appearance and motion together.

    Args:
        maps: of appearance.
        speeds: in units of what is usual, float32, shape (B, h', w'); None for appearance alone.
        paired: which frames have a pair, bool, shape (B,); of the others appearance alone is read.
        constants: as measured on normal footage.
        top_fraction: as for ``frame_scores``.
        mask_of: of the zones that hold; None for none.
    """
    medians = maps.shown.flatten(1).median(dim=1).values
    common = (medians - constants.common.centre) / constants.common.spread
    shown = _appearance(maps.shown, constants.shown, constants.common_share)
    scored = shown if maps.scored is maps.shown else _appearance(maps.scored, constants.scored, constants.common_share)
    if speeds is None or constants.motion is None:
        return _read_off(shown, scored, common, top_fraction, mask_of)
    motion = (speeds - constants.motion.centre) / constants.motion.spread
    # No pair is no motion, not a motion of 0, which would count for something.
    moved = torch.where(paired[:, None, None], motion, -constants.motion.centre / constants.motion.spread)
    shown = shown + _resized(moved, shown)
    if scored.shape[1:].numel() == 1:  # of a method that scores whole frames
        motion = _top_of(motion, top_fraction, mask_of)
    return _read_off(shown, scored, common, top_fraction, mask_of, (_resized(motion, scored), paired))


def _read_off(
    shown: Tensor,
    appearance: Tensor,
    common: Tensor,
    top_fraction: float,
    mask_of: MaskOf | None,
    motion: tuple[Tensor, Tensor] | None = None,
) -> Reading:
    """Scores of the higher one of both channels; motion comes with which frames have a pair, others have none."""
    scored = appearance
    if motion is not None:
        scored = torch.where(motion[1][:, None, None], torch.maximum(appearance, motion[0]), appearance)
    if mask_of is None:
        top = top_cells(scored, top_fraction)
    else:
        mask = mask_of(scored)
        top = top_cells(mask.weighted(scored), top_fraction, mask.cells)
        shown = mask_of(shown).shown(shown)
    moved = torch.zeros_like(top.values)
    if motion is not None:
        moved = (scored.flatten(1).gather(1, top.cells) > appearance.flatten(1).gather(1, top.cells)).float()
    return Reading(shown, top.mean(top.values), common, top.mean(moved), scored)


def _top_of(motion: Tensor, top_fraction: float, mask_of: MaskOf | None) -> Tensor:
    """What is read off maps of motion alone, as maps of one cell; shape (B, 1, 1). Sensitivity is for that cell."""
    if mask_of is None:
        return frame_scores(motion, top_fraction)[:, None, None]
    mask = mask_of(motion)
    top = top_cells(mask.kept(motion), top_fraction, mask.cells)
    return top.mean(top.values)[:, None, None]


def _appearance(maps: Tensor, channel: ChannelConstants, common_share: float) -> Tensor:
    return (without_common(maps, common_share) - channel.centre) / channel.spread


def without_common(maps: Tensor, share: float) -> Tensor:
    """Maps without a share of each one's median; what scores a whole frame has nothing in common to take off."""
    if maps.shape[1:].numel() == 1:
        return maps
    return maps - share * maps.flatten(1).median(dim=1).values[:, None, None]


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """Maps on another one's grid, by bilinear interpolation."""
    if maps.shape == like.shape:
        return maps
    return interpolate(maps.unsqueeze(1), size=like.shape[1:], mode="bilinear", align_corners=False).squeeze(1)
