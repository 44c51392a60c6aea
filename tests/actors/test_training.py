"""What `train` says before it joins a cluster."""

import sys
from pathlib import Path

import pytest

import run_cluster
from actors.training import train_together
from pipeline.config_file import with_method
from pipeline.datasets.base import Dataset
from pipeline.errors import ConfigError
from pipeline.training.progress import NullProgress
from tests.models_for_tests import tiny_config

NOWHERE = Dataset("stc", Path("nowhere"), (), ())


def train_with(tmp_path, method):
    config = with_method(tiny_config(), method)
    train_together(config, NOWHERE, tmp_path / "model", NullProgress(), address="auto", workers=2, cpus=1)


@pytest.mark.parametrize("options", [{"address": "auto", "workers": None}, {"address": None, "workers": 2}])
def test_an_address_without_workers_and_workers_without_an_address_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match="--address of a Ray cluster and --workers together, got one alone"):
        run_cluster.train(
            config=tmp_path, data=tmp_path, model_out=tmp_path, method=None, overwrite=False, cpus=1, **options
        )


def test_a_method_whose_fit_cannot_be_shared_out_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"several can fit \(cflow, padim, differnet\), got spade"):
        train_with(tmp_path, "spade")


def test_what_is_not_installed_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install 'cflow-stream\[ray-train\]'") as caught:
        train_with(tmp_path, "cflow")
    assert "\n" not in str(caught.value)
