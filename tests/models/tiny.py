"""Small models for tests: a real timm encoder with random weights, flows of a few thousand values, no training."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.config import TrainingSettings
from pipeline.model_settings import EncoderSettings, FlowSettings, ModelSettings, ScoreSettings
from pipeline.models.card import ChannelConstants, LevelConstants, ModelCard, Provenance, ReadOutConstants
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import library_versions, save_checkpoint
from pipeline.models.encoder import Encoder, build_encoder
from pipeline.models.motion import CELL_PX

SIZE_PX = (64, 96)
ENCODER = EncoderSettings(name="test_efficientnet", weights="random", strides=(8, 16, 32))


def tiny_settings(**flow) -> ModelSettings:
    """Settings of a tiny model; ``flow`` overrides settings of its flows."""
    flow = {"blocks": 2, "condition_dims": 16, "hidden_ratio": 1.0, **flow}
    return ModelSettings(
        image_size_px=SIZE_PX, encoder=ENCODER, flow=FlowSettings(**flow), score=ScoreSettings(top_fraction=0.05)
    )


READ_OUT = ReadOutConstants(
    common_share=0.5,
    common=ChannelConstants(centre=0.1, spread=0.5),
    shown=ChannelConstants(centre=2.0, spread=1.5),
    scored=ChannelConstants(centre=2.0, spread=1.5),
    motion=ChannelConstants(centre=1.0, spread=0.75),
)
"""Of a model that sees motion."""


def tiny_model(seed: int = 0, scenes: tuple[str, ...] = ("gate", "yard"), **flow) -> tuple[ModelCard, Encoder, CFlow]:
    """A model that was never trained, with a card that could be true."""
    encoder = build_encoder(ENCODER)
    model = tiny_settings(**flow).model_copy(update={"encoder": encoder.settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flows = CFlow(model, encoder.channels, scenes)
    card = ModelCard(
        model=model,
        scenes=scenes,
        levels=tuple(
            LevelConstants(stride=stride, channels=channels, mean=-1.4, std=0.2)
            for stride, channels in zip(encoder.strides, encoder.channels, strict=True)
        ),
        normal_scores=dict.fromkeys(scenes, ((1.0, 1.5, 0.1 + 0.2), (2.0,))),
        normal_fps=25.0,
        provenance=Provenance(
            dataset="stc",
            training=TrainingSettings(),
            completed=True,
            epochs=1,
            steps=3,
            train_frames=40,
            holdout_frames=4,
            losses={"stride 8": 1.5, "stride 16": 1.25, "stride 32": 1.0},
            trained_at_s=1.7e9,
            versions=library_versions(),
        ),
    )
    return card, encoder, flows.eval()


def tiny_checkpoint(folder: Path, *, sees_motion: bool = False, **model) -> ModelCard:
    """Write a tiny model's checkpoint."""
    card, encoder, flows = tiny_model(**model)
    if not sees_motion:
        return save_checkpoint(folder, card, encoder, flows)
    card = card.model_copy(update={"read_out": READ_OUT})
    return save_checkpoint(folder, card, encoder, flows, tiny_speed_scales(len(card.scenes)))


def tiny_speed_scales(scenes: int) -> torch.Tensor:
    """Of a model that sees motion: every scene's own, and that of all."""
    cells = (SIZE_PX[0] // CELL_PX, SIZE_PX[1] // CELL_PX)
    return 0.5 + torch.rand(scenes + 1, *cells, generator=torch.Generator().manual_seed(7))
