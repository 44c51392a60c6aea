"""Every method, once: what it is called, what it reads of the settings, and where its code is.

Free of torch, and of the code itself: a method's modules are named here and imported when they are needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from pipeline.model_settings import ModelSettings
    from pipeline.models.anomaly_model import AnomalyModule, StoredModel
    from pipeline.models.encoder import Encoder
    from pipeline.training.features import FeatureSpec
    from pipeline.training.fit_inputs import FitInputs, FitResult

DEFAULT_METHOD = "cflow"


@dataclass(frozen=True, slots=True)
class Method:
    """One method. Functions are named as ``package.module:function``.

    Attributes:
        name: as ``model.method`` and a checkpoint's card say it.
        section: the part of ``ModelSettings`` that it reads; no other method's part decides anything about its models.
        builder: ``build(stored, precision)`` makes its ``AnomalyModel`` of what a checkpoint holds; RuntimeError where
            the tensors are not those that the card describes.
        fit: fits it to footage; from ``FitInputs`` to ``FitResult``.
        feature_spec: from the model's settings and an encoder to what it keeps of the footage; None for a method that
            reads the whole pyramid, which trainings of several methods can share.
        feature_settings: settings of its section that decide what it keeps, where it has a ``feature_spec``.
        limits: settings of its section that a training was held to, and that no score depends on.
        packaged: whether encoder and flows are compiled ahead of time (``inference/packages``), in whichever precision
            is the fastest; others run in float32, and their encoder is compiled by the process that runs it.
        stated: settings of its section that choosing it by its name on the command line sets.
        aliases: further names that the command line knows it by, each with the settings that it sets.
        fitted: what the progress of its training calls that which is fitted; its name by default.
        note: what a comparison says of it below the table.
        is_shared: whether several workers can fit it together.
        scores_frames: whether it scores whole frames, so that of a frame's score zones can leave out motion alone.
    """

    name: str
    section: str
    builder: str
    fit: str
    feature_spec: str | None = None
    feature_settings: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    packaged: bool = False
    stated: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fitted: str = ""
    note: str = ""
    is_shared: bool = False
    scores_frames: bool = False

    @property
    def shares_features(self) -> bool:
        """Whether it reads the pyramid that other methods' trainings read, too."""
        return self.feature_spec is None

    def load_builder(self) -> Callable[[StoredModel, torch.dtype], AnomalyModule]:
        """Import what makes its ``AnomalyModel``."""
        return _load(self.builder)

    def load_fit(self) -> Callable[[FitInputs], FitResult]:
        """Import what fits it."""
        return _load(self.fit)

    def load_feature_spec(self) -> Callable[[ModelSettings, Encoder], FeatureSpec]:
        """Import what says which features it keeps."""
        return _load(self.feature_spec or "pipeline.training.features:pyramid_spec")


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "cflow",
            section="flow",
            builder="pipeline.inference.cflow:build_cflow",
            fit="pipeline.training.flows:fit_flows",
            packaged=True,
            stated={"condition": "adaptive"},
            aliases={"conditional": {"condition": "position"}, "unconditional": {"condition": "none"}},
            fitted="flows",
            is_shared=True,
        ),
        Method(
            "padim",
            section="padim",
            builder="pipeline.baselines.padim:build_padim",
            fit="pipeline.training.baselines:fit_padim",
            is_shared=True,
        ),
        Method(
            "spade",
            section="spade",
            builder="pipeline.baselines.spade:build_spade",
            fit="pipeline.training.baselines:fit_spade",
            limits=("gallery_gib",),
            scores_frames=True,
        ),
        Method(
            "differnet",
            section="differnet",
            builder="pipeline.baselines.differnet:build_differnet",
            fit="pipeline.training.differnet:fit_differnet",
            feature_spec="pipeline.training.differnet:pooled_spec",
            feature_settings=("scales", "rotations"),
            note=(
                "DifferNet scores whole frames: its pixel numbers are those of the frame's score on all of its pixels."
            ),
            is_shared=True,
            scores_frames=True,
        ),
    )
}
"""By the name that a model's settings give."""

_CHOICES: Mapping[str, tuple[Method, Mapping[str, Any]]] = {
    **{name: (method, method.stated) for name, method in METHODS.items()},
    **{alias: (method, stated) for method in METHODS.values() for alias, stated in method.aliases.items()},
}

CHOICES = tuple(_CHOICES)
"""What ``train --method`` and ``compare --methods`` take: every method's name, then the aliases."""


def check_method(name: str) -> str:
    """The name of a method, as it came.

    Raises:
        ValueError: no method is called so.
    """
    if name not in METHODS:
        raise ValueError(f"expected one of {', '.join(METHODS)}")  # what came is shown, or not, by who has it
    return name


def method_of(name: str) -> Method:
    """A model's method.

    Args:
        name: as ``ModelSettings.method``.

    Raises:
        ConfigError: no method is called so.
    """
    try:
        return METHODS[check_method(name)]
    except ValueError as error:
        raise ConfigError(f"model.method: {error}, got {name!r}") from None


def chosen_method(choice: str) -> tuple[Method, Mapping[str, Any]]:
    """A method as the command line names it, and the settings of its section that the name sets.

    Args:
        choice: one of ``CHOICES``.

    Raises:
        ConfigError: none is called so.
    """
    if choice not in _CHOICES:
        raise ConfigError(f"method: expected one of {', '.join(CHOICES)}, got {choice!r}")
    return _CHOICES[choice]


def _load(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)
