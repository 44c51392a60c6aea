"""What the flows minimise."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def flow_loss(log_likelihood: Tensor) -> Tensor:
    """Mean of ``-log sigmoid(log p(z | c) / D)``, as in the CFLOW-AD authors' code (Gudovskiy et al. 2022).

    For unlikely vectors it falls like the negative log-likelihood; vectors that are likely already pull less.

    Args:
        log_likelihood: per dimension, in nats; shape (N,).
    """
    return -logsigmoid(log_likelihood).mean()
