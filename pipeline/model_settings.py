"""Settings of a model, method by method: what a checkpoint's card holds. ``pipeline.config`` has all the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.methods import DEFAULT_METHOD, check_method

Seed = Annotated[int, Field(ge=0, lt=2**63)]
# A model that is larger than any that was ever built is a slip of the pen, or damage: better refused than allocated.
ImageSide = Annotated[int, Field(gt=0, le=8192)]
MIN_GAP_S, MAX_GAP_S = 0.01, 0.5
"""Frames closer or further apart than this are no pair: time stamps that close say little of the time between pictures
(a burst of them over the network), and what moved for that long has long been elsewhere."""

MethodName = Annotated[str, AfterValidator(check_method)]


class Settings(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class EncoderSettings(Settings):
    """The frozen backbone, and which of its feature maps are the levels.

    A pyramid has a map per stride, so levels are named by strides. A vision transformer has one stride throughout, and
    its levels are named by blocks: early ones see edges and colours, late ones objects.

    Attributes:
        name: any timm model that offers ``features_only``.
        weights: ``pretrained`` (timm's model hub), ``random`` (seeded; accuracy suffers) or a safetensors file.
        blocks: the levels by index among the maps that timm offers (a transformer's blocks, a pyramid's stages), from
            0, rising; empty takes them by stride.
        strides: strides of the levels in pixels, finest first. With ``blocks`` the model knows them: they are
            filled in, and need not be stated.
        mean: per-channel mean of the input in [0, 1] units; None takes timm's.
        std: per-channel standard deviation, likewise.
        arguments: extra constructor arguments for timm, such as ``pad_type: same``.
        seed: of the random weights.
    """

    name: str = "mobilenetv2_100"
    weights: str = "pretrained"
    blocks: tuple[NonNegativeInt, ...] = ()
    strides: tuple[PositiveInt, ...] = (8, 16, 32)
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0

    @model_validator(mode="after")
    def _levels_rise(self) -> Self:
        if self.blocks and "strides" not in self.model_fields_set:
            object.__setattr__(self, "strides", ())  # the default is a pyramid's
        strides, blocks = list(self.strides), list(self.blocks)
        if blocks != sorted(set(blocks)):
            raise ValueError(f"blocks: expected rising values without repeats, got {blocks}")
        if not blocks and (not strides or strides != sorted(set(strides))):
            raise ValueError(f"strides: expected rising values without repeats, got {strides}")
        if blocks and strides and (len(strides) != len(blocks) or strides != sorted(strides)):
            raise ValueError(f"strides: expected none, or one for each of the blocks {blocks}, got {strides}")
        return self

    @property
    def level_names(self) -> tuple[str, ...]:
        """What tells the levels apart, in words: ``stride 8`` or, where levels are blocks, ``block 3``."""
        if self.blocks:
            return tuple(f"block {block}" for block in self.blocks)
        return tuple(f"stride {stride}" for stride in self.strides)


class FlowSettings(Settings):
    """The conditional normalizing flows, one per level (Gudovskiy et al. 2022, section 4).

    Attributes:
        blocks: affine coupling blocks per flow.
        clamp: soft limit of a block's log-scale.
        permutation: between blocks, ``soft`` (a random orthogonal matrix) or ``hard`` (a shuffle of channels).
        hidden_ratio: width of a block's hidden layer as a multiple of its input.
        condition_dims: length of the position encoding, a multiple of 4.
        camera_embedding: length of the learned embedding of the scene that is appended; 0 turns it off.
        condition: ``adaptive`` gives position and camera, per level, as much weight as held-out footage supports, none
            at all too (``training/condition_strength``); ``position`` gives them all of it, as in the paper; ``none``
            leaves the position out, which makes an unconditional flow to compare with (a camera embedding, if there is
            one, stays).
    """

    blocks: Annotated[int, Field(gt=0, le=256)] = 8
    clamp: PositiveFloat = 1.9
    permutation: Literal["soft", "hard"] = "soft"
    hidden_ratio: Annotated[float, Field(gt=0.0, le=64.0)] = 2.0
    condition_dims: Annotated[int, Field(gt=0, le=4096, multiple_of=4)] = 128
    camera_embedding: Annotated[int, Field(ge=0, le=4096)] = 0
    condition: Literal["adaptive", "position", "none"] = "adaptive"

    @property
    def position_dims(self) -> int:
        """Length of the part of the condition vector that says where: 0 without one."""
        return 0 if self.condition == "none" else self.condition_dims


class PadimSettings(Settings):
    """PaDiM: one Gaussian per position (Defard et al., ICPR 2020, arXiv 2011.08785).

    Attributes:
        channels: of all levels' channels together, how many are kept, drawn at random; all where there are fewer. A
            position costs their square.
        ridge: added to the diagonal of every covariance (0.01 in the paper).
        smoothing_px: standard deviation of the Gaussian that smooths the map, in pixels of the model's input; 0 is off.
    """

    channels: Annotated[int, Field(gt=0, le=4096)] = 100
    ridge: PositiveFloat = 0.01
    smoothing_px: Annotated[float, Field(ge=0.0, le=256.0)] = 4.0


class SpadeSettings(Settings):
    """SPADE: nearest neighbours among all training frames (Cohen and Hoshen 2020, arXiv 2005.02357).

    Attributes:
        image_neighbours: K, nearest training frames by pooled features; the paper takes 50, and 1 on ShanghaiTech.
        pixel_neighbours: kappa, nearest feature vectors among those of the K frames.
        gallery_gib: most memory that the features of all training frames may take; more is refused, not thinned.
        smoothing_px: standard deviation of the Gaussian that smooths the map, in pixels of the model's input; 0 is off.
    """

    image_neighbours: Annotated[int, Field(gt=0, le=10_000)] = 50
    pixel_neighbours: Annotated[int, Field(gt=0, le=100)] = 1
    gallery_gib: PositiveFloat = 4.0
    smoothing_px: Annotated[float, Field(ge=0.0, le=256.0)] = 4.0


class DiffernetSettings(Settings):
    """DifferNet: an unconditional flow on pooled features of the whole image (Rudolph et al., WACV 2021).

    Attributes:
        blocks: Glow coupling blocks.
        clamp: soft limit of a block's log-scale.
        hidden_dims: width of a block's hidden layers.
        hidden_layers: their number.
        scales: sizes at which the image is encoded, as fractions of ``image_size_px``, falling.
        rotations: at how many angles, evenly over the circle, a frame is seen in training and when it is scored; 0 and
            1 leave it upright. Each costs one pass of the encoder per scale.
        learning_rate: in place of ``training.learning_rate``, at which flows of this width diverge.
    """

    blocks: Annotated[int, Field(gt=0, le=256)] = 8
    clamp: PositiveFloat = 3.0
    hidden_dims: Annotated[int, Field(gt=0, le=16_384)] = 2048
    hidden_layers: Annotated[int, Field(gt=0, le=8)] = 1
    scales: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(default=(1.0, 0.5, 0.25), min_length=1)
    rotations: Annotated[int, Field(ge=0, le=360)] = 0
    learning_rate: PositiveFloat = 2e-4

    @model_validator(mode="after")
    def _scales_fall(self) -> Self:
        if list(self.scales) != sorted(set(self.scales), reverse=True):
            raise ValueError(f"scales: expected falling values without repeats, got {list(self.scales)}")
        return self


def top_count(cells: int, top_fraction: float) -> int:
    """How many of a map's cells a score is the mean of: at least one.

    Args:
        cells: that count of the map.
        top_fraction: as ``ScoreSettings`` has it.
    """
    return max(1, round(top_fraction * cells))


class ScoreSettings(Settings):
    """How a frame's anomaly score is read off its anomaly map (SPADE and DifferNet score whole frames instead).

    Attributes:
        top_fraction: the score is the mean of this fraction of the map's highest values; 0 takes the maximum, as the
            paper does.
        levels: of flows, whose surprise the score is read off: ``all``, as the map shows it, or the ``finest`` alone,
            which of a vision transformer is all: its blocks have one stride.
            Coarse levels find the place of an anomaly better than they tell whether there is one, where anomalies are
            small.
    """

    levels: Literal["all", "finest"] = "all"
    top_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02


class MotionSettings(Settings):
    """What is seen of motion: a frame is scored together with one that came shortly before it.

    Attributes:
        gap_s: how much earlier the other half of a frame's pair is to be, in seconds. Of what a camera sends the frame
            nearest to that is taken, whichever are scored.
        enabled: whether motion is looked at; without it appearance alone decides.
    """

    gap_s: Annotated[float, Field(ge=2 * MIN_GAP_S, le=MAX_GAP_S / 2)] = 0.1
    enabled: bool = True


class ModelSettings(Settings):
    """Everything that makes a model, and with it a checkpoint.

    Attributes:
        image_size_px: (height, width) of the encoder's input; frames are resized to it without keeping the aspect.
        encoder: the frozen backbone.
        method: what is made of its features, by its name in ``pipeline.methods``; each method reads the section below
            that bears its name, ``cflow`` reads ``flow``.
        flow: the flows.
        padim: the Gaussians.
        spade: the gallery.
        differnet: the flow on whole images.
        score: from map to score.
        motion: of every method.
    """

    image_size_px: tuple[ImageSide, ImageSide] = (256, 256)
    encoder: EncoderSettings = EncoderSettings()
    method: MethodName = DEFAULT_METHOD
    flow: FlowSettings = FlowSettings()
    padim: PadimSettings = PadimSettings()
    spade: SpadeSettings = SpadeSettings()
    differnet: DiffernetSettings = DiffernetSettings()
    score: ScoreSettings = ScoreSettings()
    motion: MotionSettings = MotionSettings()

    @model_validator(mode="after")
    def _size_fits_strides(self) -> Self:
        misfit = size_misfit(self.image_size_px, self.encoder.strides)
        if misfit:
            raise ValueError(f"image_size_px: {misfit}")
        return self


def size_misfit(image_size_px: tuple[int, int], strides: Sequence[int]) -> str:
    """Why images of this (height, width) do not fit levels of these strides, or nothing; strides may yet be unknown."""
    coarsest = strides[-1] if strides else 1
    if not any(side % coarsest for side in image_size_px):
        return ""
    near = [max(1, round(side / coarsest)) * coarsest for side in image_size_px]
    return f"expected multiples of the coarsest stride {coarsest}, such as {near}, got {list(image_size_px)}"
