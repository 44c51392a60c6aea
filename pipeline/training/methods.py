"""How each method is fitted: the one place of training that knows them all. Each is imported when it is needed."""

from __future__ import annotations

from pipeline.model_settings import ModelSettings
from pipeline.models.encoder import Encoder
from pipeline.training.features import Reading, pyramid_reading
from pipeline.training.ground import Fitted, Ground


def reading_of(model: ModelSettings, encoder: Encoder) -> Reading:
    """What a method keeps of the footage."""
    if model.method == "differnet":
        from pipeline.training.differnet import pooled_reading

        return pooled_reading(model, encoder)
    return pyramid_reading(encoder, model.image_size_px)


def fit_method(ground: Ground) -> Fitted:
    """Fit the method that the model's settings name.

    Raises:
        ModelSizeError: the model would not fit into memory, or is larger than its limit.
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before anything usable was there.
    """
    method = ground.model.method
    if method == "cflow":
        from pipeline.training.flows import fit_flows as fit
    elif method == "padim":
        from pipeline.training.baselines import fit_padim as fit
    elif method == "spade":
        from pipeline.training.baselines import fit_spade as fit
    else:
        from pipeline.training.differnet import fit_differnet as fit
    return fit(ground)
