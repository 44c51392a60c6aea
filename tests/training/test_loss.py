import math

import pytest
import torch

from pipeline.training.loss import flow_loss


def test_the_loss_is_minus_log_sigmoid_of_the_log_likelihood_per_dimension():
    values = [-5.0, -1.0, 0.0, 2.0]
    expected = sum(math.log1p(math.exp(-value)) for value in values) / len(values)
    assert float(flow_loss(torch.tensor(values))) == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_finite_however_unlikely_a_vector_is():
    assert float(flow_loss(torch.tensor([-1e6]))) == pytest.approx(1e6)
    assert float(flow_loss(torch.tensor([1e6]))) == 0.0


def test_likely_vectors_pull_less():
    values = torch.tensor([-5.0, 0.0, 5.0], requires_grad=True)
    flow_loss(values).backward()
    assert values.grad is not None
    pull = (-3.0 * values.grad).tolist()
    assert pull == pytest.approx([1 / (1 + math.exp(value)) for value in (-5.0, 0.0, 5.0)], rel=1e-5)
