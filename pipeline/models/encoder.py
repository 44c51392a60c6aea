"""The frozen backbone: any timm model with ``features_only``, from uint8 frames to feature maps, its levels.

The levels are named by their strides in pixels or by their blocks; which maps those are and how many channels they have
is asked of the model's ``feature_info``. Blocks of a transformer are taken as they are, without its last norm: flows
whiten every channel themselves. Normalisation and constructor arguments come from timm's own config unless the settings
override them. Weights are read from safetensors only: nothing here unpickles.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.errors import ConfigError, WeightsError
from pipeline.model_settings import EncoderSettings, size_misfit
from pipeline.models.fold import fold_batch_norms
from pipeline.models.timm_import import timm

_LOGGER = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 5.0
_HUB_FILE = "model.safetensors"
# What timm calls it where position encodings and windows follow the image's size; other models do not know the word.
_ANY_SIZE = "dynamic_img_size"

# Arguments of timm.create_model that are this module's own business. Some would load a pickle, others change what
# the pyramid is.
_RESERVED_ARGUMENTS = frozenset(
    {
        "model_name",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "features_only",
        "feature_cfg",
        "out_indices",
        "in_chans",
        "num_classes",
    }
)


class Encoder(nn.Module):
    """A frozen encoder h: frames to K feature maps, finest first (Gudovskiy et al. 2022, section 4).

    Always in evaluation mode and without gradients, so a frame's features depend on that frame alone.

    Attributes:
        settings: as asked for, with ``mean`` and ``std`` filled in.
        strides: stride of every level in pixels, finest first.
        channels: length D_k of every level's feature vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: EncoderSettings, backbone: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.settings = settings
        self.strides = settings.strides
        self.channels = channels
        self.backbone = backbone
        # What some of timm's models state that keep channels last within, as Swin does; the others say nothing.
        self._channels_last = getattr(backbone, "output_fmt", None) == "NHWC"
        assert settings.mean is not None
        assert settings.std is not None
        self.register_buffer("mean", 255.0 * torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255.0 * torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: batch norm must never see the batch."""
        del mode
        return super().train(False)

    def for_inference(self) -> Encoder:
        """A copy that gives the same features faster: batch norms folded, channels last.

        Its tensors are other ones than this encoder's, so it is no encoder for a checkpoint.
        """
        faster = copy.deepcopy(self)
        fold_batch_norms(faster.backbone)
        faster.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return faster

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode frames.

        Args:
            images: uint8, shape (B, H, W, 3), RGB, on the encoder's device; H and W multiples of the coarsest stride.

        Returns:
            One float32 tensor per level, shape (B, D_k, H / stride_k, W / stride_k).

        Raises:
            ConfigError: the model's feature maps do not have the shape that its ``feature_info`` promises.
        """
        count, height, width, _ = images.shape
        # Frames are stored channels last, and so their pixels stay.
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        maps = self.backbone(pixels)
        if self._channels_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        for stride, channels, level in zip(self.strides, self.channels, maps, strict=True):
            expected = (count, channels, height // stride, width // stride)
            if tuple(level.shape) != expected:
                raise ConfigError(
                    f"model.encoder.name: {self.settings.name}: expected a feature map of shape {expected} at stride "
                    f"{stride}, got {tuple(level.shape)}"
                )
        return maps

    def check_size(self, image_size_px: tuple[int, int]) -> None:
        """Encode a black frame: many models take but one size, and each says so in its own way.

        Args:
            image_size_px: (height, width) of the frames that are to come.

        Raises:
            ConfigError: the model takes no such images.
        """
        height, width = image_size_px
        misfit = size_misfit(image_size_px, self.strides)
        if misfit:
            raise ConfigError(f"model.image_size_px: {self.settings.name}: {misfit}")
        try:
            with torch.inference_mode():
                self(torch.zeros(1, height, width, 3, dtype=torch.uint8, device=self.mean.device))
        except (ConfigError, torch.OutOfMemoryError):
            raise
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            usual: Any = getattr(self.backbone, "pretrained_cfg")["input_size"]  # noqa: B009 (timm adds it, untyped)
            asked = "img_size" in self.settings.arguments
            way_out = "" if asked else f"model.encoder.arguments: {{img_size: {list(image_size_px)}}} may help, else "
            raise ConfigError(
                f"model.image_size_px: {self.settings.name} takes no images of {list(image_size_px)} "
                f"({_said(error)}); {way_out}set {list(usual[1:])}, as it was trained with"
            ) from error


def build_encoder(settings: EncoderSettings) -> Encoder:
    """Build the encoder and give it its weights: ``pretrained``, ``random`` or a safetensors file.

    Raises:
        ConfigError: timm knows no such model, it offers no such stride, or refuses the arguments.
        WeightsError: the weights cannot be had or do not fit.
    """
    encoder = bare_encoder(settings)
    if settings.weights == "random":
        _LOGGER.warning(
            "encoder %s: RANDOM WEIGHTS (seed %d). The features mean little, and accuracy suffers badly; set "
            "model.encoder.weights to a safetensors file or to 'pretrained'.",
            settings.name,
            settings.seed,
        )
        return encoder
    path = _from_hub(encoder) if settings.weights == "pretrained" else Path(settings.weights)
    _load_weights(encoder, path)
    return encoder


def bare_encoder(settings: EncoderSettings) -> Encoder:
    """Build the encoder with random weights drawn from ``settings.seed``; the global random state stays as it was.

    Raises:
        ConfigError: timm knows no such model, it offers no such stride, or refuses the arguments.
    """
    with _structure_only():
        info = _create(settings).feature_info
    indices = _of_blocks(settings, info) if settings.blocks else _of_strides(settings, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = _create(settings, out_indices=indices)
    timm_config: dict[str, Any] = backbone.pretrained_cfg
    resolved = settings.model_copy(
        update={
            "strides": tuple(info.reduction(indices)),
            "mean": settings.mean or tuple(timm_config["mean"]),
            "std": settings.std or tuple(timm_config["std"]),
        }
    )
    return Encoder(resolved, backbone, tuple(info.channels(indices)))


def _of_blocks(settings: EncoderSettings, info: Any) -> list[int]:
    """Which of all maps that timm knows are the levels, taken by their own numbers."""
    indices, strides = list(settings.blocks), list(settings.strides)
    if indices[-1] >= len(info):
        raise ConfigError(f"model.encoder.blocks: {settings.name} has feature maps 0 to {len(info) - 1}, got {indices}")
    found = list(info.reduction(indices))
    if strides and strides != found:
        raise ConfigError(
            f"model.encoder.strides: the blocks {indices} of {settings.name} have strides {found}, got {strides}; "
            "state blocks alone"
        )
    return indices


def _of_strides(settings: EncoderSettings, info: Any) -> list[int]:
    """Which of the maps that timm gives unless asked are the levels, taken by their strides."""
    usual, reductions = list(info.out_indices), list(info.reduction())
    if not set(settings.strides) <= set(reductions):
        instead = f"; name levels by model.encoder.blocks, 0 to {len(info) - 1}" if len(set(reductions)) == 1 else ""
        raise ConfigError(
            f"model.encoder.strides: {settings.name} has feature maps at strides {sorted(set(reductions))}, got "
            f"{list(settings.strides)}{instead}"
        )
    # Where several stages share a stride the last one has seen most of the image.
    return [usual[len(reductions) - 1 - reductions[::-1].index(stride)] for stride in settings.strides]


class _NoInitialisation(TorchFunctionMode):
    """Leaves out what initialises weights; without values, torch's way of drawing them would import its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def _structure_only() -> Iterator[None]:
    """Models that are built in the block have stages and names, but no memory and no values."""
    with torch.device("meta"), _NoInitialisation():
        yield


def _create(settings: EncoderSettings, **features: Any) -> Any:
    """Ask timm for the model of the levels, without weights; one that can take images of any size is told to.

    ``Any``: ``feature_info`` and ``pretrained_cfg`` are attributes that timm adds and does not type.
    """
    reserved = sorted(_RESERVED_ARGUMENTS & settings.arguments.keys())
    if reserved:
        raise ConfigError(f"model.encoder.arguments.{reserved[0]}: expected none of {sorted(_RESERVED_ARGUMENTS)}")
    if not timm.is_model(settings.name):
        family = settings.name.split(".")[0].split("_")[0]
        near = ", ".join(timm.list_models(f"{family}*")[:8]) or "see timm.list_models()"
        raise ConfigError(f"model.encoder.name: expected a model that timm knows ({near}), got {settings.name!r}")
    try:
        try:
            return _features_of(settings, {_ANY_SIZE: True, **settings.arguments}, features)
        except TypeError as error:
            if _ANY_SIZE not in str(error) or _ANY_SIZE in settings.arguments:
                raise
            return _features_of(settings, settings.arguments, features)
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError) as error:
        raise ConfigError(
            f"model.encoder: timm cannot build {settings.name} as a pyramid with arguments {settings.arguments}: "
            f"{_said(error)}"
        ) from error


def _features_of(settings: EncoderSettings, arguments: dict[str, Any], features: dict[str, Any]) -> Any:
    return timm.create_model(settings.name, pretrained=False, features_only=True, **features, **arguments)


def _said(error: Exception) -> str:
    """An exception of a library in one line."""
    return " ".join(str(error).split())[:300] or error.__class__.__name__


def _load_weights(encoder: Encoder, path: Path) -> None:
    """Read a timm state dict for the encoder's model; the layers behind the pyramid are passed over.

    Raises:
        WeightsError: it is no readable safetensors file, or its tensors are not the model's.
    """
    where = f"encoder weights {path}"
    if path.suffix != ".safetensors":
        raise WeightsError(f"{where}: expected a .safetensors file (nothing is unpickled), got {path.suffix!r}")
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise WeightsError(f"{where}: expected a readable safetensors file, got: {reason}") from error

    # A pyramid flattens a model's containers, and with them some names: "stages.0.norm" is called "stages_0.norm". What
    # takes blocks of a model has it whole, as "model".
    by_name = {_flat(name): tensor for name, tensor in stored.items()}
    whole = encoder.backbone if not hasattr(encoder.backbone, "model") else encoder.backbone.get_submodule("model")
    wanted = whole.state_dict()
    # num_batches_tracked is of no use outside training, and converted files leave it out.
    missing = sorted(name for name in wanted if _flat(name) not in by_name and not name.endswith("num_batches_tracked"))
    strange = sorted(by_name.keys() - _classifier_names(encoder.settings) - {_flat(name) for name in wanted})
    if missing or strange:
        raise WeightsError(
            f"{where}: expected the tensors of timm's {encoder.settings.name}, got {len(missing)} missing"
            f"{_sample(missing)} and {len(strange)} unknown{_sample(strange)}"
        )
    chosen = {name: by_name[_flat(name)] for name in wanted if _flat(name) in by_name}
    for name, tensor in chosen.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{where}: {name}: expected shape {tuple(wanted[name].shape)} for timm's {encoder.settings.name}, got "
                f"{tuple(tensor.shape)}"
            )
    whole.load_state_dict(chosen, strict=False)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _sample(names: list[str]) -> str:
    return f" ({', '.join(names[:2])}{'...' if len(names) > 2 else ''})" if names else ""


def _classifier_names(settings: EncoderSettings) -> set[str]:
    """Flattened names of the whole classifier's tensors: what a file may hold beyond the pyramid."""
    with _structure_only():
        classifier = timm.create_model(settings.name, pretrained=False, **settings.arguments)
    return {_flat(name) for name in classifier.state_dict()}


def _from_hub(encoder: Encoder) -> Path:
    """Fetch the model's weights from timm's hub, or find them in the hub's cache on this machine.

    Raises:
        WeightsError: neither is possible. A hub out of reach is noticed within seconds: its client alone would retry
            for most of a minute.
    """
    name = encoder.settings.name
    config: dict[str, Any] = getattr(encoder.backbone, "pretrained_cfg")  # noqa: B009 (timm adds it, untyped)
    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    file = str(config.get("hf_hub_filename") or _HUB_FILE)
    if not repository or not file.endswith(".safetensors"):
        raise WeightsError(
            f"model.encoder.weights: timm has no safetensors weights of {name} on its hub; set it to a safetensors "
            "file, or to 'random'"
        )
    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
    if isinstance(cached, str):
        return Path(cached)
    try:
        huggingface_hub.get_session().head(hub_constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
        return Path(
            huggingface_hub.hf_hub_download(repository, file, revision=revision or None, etag_timeout=_HUB_TIMEOUT_S)
        )
    # The hub's HTTP client has its own exception tree, and which client that is changes between releases.
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        reason = "it refused" if isinstance(error, HfHubHTTPError) else "it is out of reach"
        detail = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"model.encoder.weights: cannot get {name} from the model hub {hub_constants.ENDPOINT}: {reason} "
            f"({detail}); set it to a safetensors file, or to 'random' (accuracy suffers)"
        ) from error
