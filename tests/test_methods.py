"""The table of methods: what it names is there, and what it does not name is refused wherever a name may come from."""

import dataclasses

import pytest
import torch

from pipeline.config import Config, RuntimeSettings
from pipeline.config_file import parse_config, with_method
from pipeline.errors import ConfigError
from pipeline.inference.tuning import choose_tuning
from pipeline.methods import CHOICES, DEFAULT_METHOD, METHODS, chosen_method, method_of
from pipeline.model_settings import ModelSettings, Settings

BASE = {"encoder", "score", "motion", "method", "image_size_px"}


@pytest.mark.parametrize("name", METHODS)
def test_what_an_entry_names_is_there(name):
    method = method_of(name)
    for load in (method.load_builder, method.load_fit, method.load_feature_spec):
        assert callable(load())
    section = ModelSettings.model_fields[method.section].annotation
    assert isinstance(section, type)
    assert issubclass(section, Settings)
    named = {*method.feature_settings, *method.limits, *method.stated}.union(*method.aliases.values())
    assert named <= set(section.model_fields)


def test_every_section_of_the_settings_belongs_to_one_method():
    assert sorted(method.section for method in METHODS.values()) == sorted(set(ModelSettings.model_fields) - BASE)


def test_names_and_aliases_are_different():
    assert len(set(CHOICES)) == len(CHOICES) == len(METHODS) + sum(len(method.aliases) for method in METHODS.values())
    assert DEFAULT_METHOD in METHODS


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_changes_the_method_and_what_its_name_states_and_nothing_else(choice):
    method, stated = chosen_method(choice)
    config = Config()
    expected = config.model.model_dump() | {"method": method.name}
    expected[method.section] |= stated
    assert with_method(config, choice).model.model_dump() == expected


def test_the_condition_is_left_out_or_kept_whole_by_an_alias_and_chosen_by_the_name():
    config = Config()
    for name, condition in (("unconditional", "none"), ("conditional", "position"), ("cflow", "adaptive")):
        config = with_method(config, name)
        assert (config.model.method, config.model.flow.condition) == ("cflow", condition)


@pytest.mark.parametrize("name", ["patchcore", "", "CFLOW", "unconditional"])
def test_a_name_that_is_no_methods_is_refused_in_one_line(name):
    said = rf"model\.method: expected one of {', '.join(METHODS)}, got '{name}'"
    with pytest.raises(ConfigError, match=rf"^{said}$"):
        method_of(name)
    with pytest.raises(ConfigError, match=rf"^config: {said}$"):
        parse_config({"model": {"method": name}})
    with pytest.raises(ConfigError, match=said):
        choose_tuning(RuntimeSettings(compile=False), torch.device("cpu"), name)


@pytest.mark.parametrize("name", ["x" * 10_000, "viewer:hunter2@camera"])
def test_whatever_stands_in_the_place_of_a_method_is_said_briefly_and_without_a_password(name):
    with pytest.raises(ConfigError) as caught:
        parse_config({"model": {"method": name}})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_entry_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        method_of("cflow").section = "padim"
