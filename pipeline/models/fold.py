"""Batch norm folded into the convolution before it: the same features for a third less work in a MobileNet."""

from __future__ import annotations

import logging

from torch import nn
from torch.fx import Node, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_weights

_LOGGER = logging.getLogger(__name__)


class _LayerTracer(Tracer):
    """Keeps timm's subclasses of torch's layers whole, as torch's own are kept."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module is one node of the graph."""
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norms(model: nn.Module) -> int:
    """Fold, in place, every batch norm that is all that reads a convolution's output.

    An activation that timm keeps inside its batch norm stays where it is. A model that cannot be traced (its code
    branches on values) stays as it is.

    Args:
        model: in evaluation mode, on the CPU.

    Returns:
        How many batch norms were folded.
    """
    pairs = _pairs(model)
    for convolution, norm, norm_name in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        folded = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = folded
        parent, _, name = norm_name.rpartition(".")
        setattr(model.get_submodule(parent), name, _activation(norm))
    return len(pairs)


def _pairs(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d, str]]:
    try:
        graph = _LayerTracer().trace(model)
    except Exception as error:  # anything may happen in a model's own code that meets a symbolic value
        _LOGGER.info("batch norms stay as they are: the encoder cannot be traced (%s)", " ".join(str(error).split()))
        return []
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times_called = [node.target for node in calls]
    pairs = []
    for node in calls:
        source = node.args[0] if node.args else None
        if not isinstance(source, Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        convolution, norm = (model.get_submodule(str(at.target)) for at in (source, node))
        once = times_called.count(source.target) == times_called.count(node.target) == 1
        if once and isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            pairs.append((convolution, norm, str(node.target)))
    return [pair for pair in pairs if pair[1].running_mean is not None]


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What timm's batch norms do beside normalising."""
    parts = [part for part in (getattr(norm, name, None) for name in ("drop", "act")) if isinstance(part, nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()
