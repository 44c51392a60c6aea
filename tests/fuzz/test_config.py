"""Whatever stands in a YAML file: settings, or one line per fault. Then each bug that this found, by name."""

import pytest
from hypothesis import given, settings

from pipeline.config_file import load_config, parse_config
from pipeline.errors import ConfigError
from tests.fuzz.hostile_configs import check_hostile_config, hostile_configs
from tests.fuzz.targets import SECRET, check_config, config_bytes, config_trees


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "c.yaml"


@settings(max_examples=250)
@given(text=config_trees())
def test_example_configs_with_other_values_are_read_or_refused_without_secrets(path, text):
    check_config(path, text)


@settings(max_examples=150)
@given(content=config_bytes)
def test_damaged_configs_are_read_or_refused(path, content):
    check_config(path, content, keeps_secrets=False)  # damage can make a password anything


@settings(max_examples=300)
@given(content=hostile_configs)
def test_hostile_configs_are_read_or_refused_soon(path, content):
    check_hostile_config(path, content)


def complaint(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert str(caught.value).isprintable()
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_file_of_a_kilobyte_that_stands_for_gigabytes_is_refused_at_once(path):
    levels = [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    assert "more than 100,000 values" in complaint(path, "\n".join(["a: &a [x]", *levels]))


def test_merge_keys_multiply_no_further(path):
    levels = [f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join(['*' + chr(97 + i)] * 9)}]}}" for i in range(9)]
    assert "more than 100,000 values" in complaint(path, "\n".join(["a: &a {k: 1}", *levels]))


@pytest.mark.parametrize("text", ["[" * 5_000, "a: " + "{a: " * 3_000 + "1" + "}" * 3_000, "a: " + "[" * 60 + "]" * 60])
def test_deep_nesting_is_refused(path, text):
    assert "nested more than 50 deep" in complaint(path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"redis: {{url: *{SECRET}}}", "found undefined alias, line 1, column 14 (text that begins with *, & or !"),
        (f"redis: {{url: !{SECRET} x}}", "could not determine a constructor for the tag, line 1, column 14 (text that"),
        (f"redis: {{url: !{SECRET}!x y}}", "found undefined tag handle, line 1, column 14 (text that"),
        ("redis: {url: [x", "expected ',' or ']', but got '<stream end>', line 1, column 16"),
        (f"redis: {{url: redis://u:12,{SECRET}@h}}", "redis: unknown key without a value (within {} put an address"),
        (f"cameras: [{{id: gate, url: rtsp://u:12,{SECRET}}}]", "cameras.gate: unknown key without a value"),
        ("cameras: [{id: gate, url: a.mp4, sampel_fps: }]", "cameras.gate.sampel_fps: unknown key; expected one of"),
    ],
)  # fmt: skip
def test_a_password_that_yaml_takes_for_something_else_is_not_shown(path, text, said):
    shown = complaint(path, text)
    assert said in shown
    assert SECRET not in shown


def test_nesting_through_aliases_is_nesting_too(path):
    chain = [f"k{i}: &a{i} [*a{i - 1}]" for i in range(1, 3_000)]
    assert "nested more than 50 deep" in complaint(path, "\n".join(["k0: &a0 [x]", *chain]))


@pytest.mark.parametrize("text", ["cameras: &a [*a]", "a: &a {b: *a}"])
def test_a_value_that_holds_itself_is_refused(path, text):
    assert "a value that holds itself, line 1" in complaint(path, text)


@pytest.mark.parametrize(
    "text", ["a: 2024-99-99", "a: !!int x", "a: !!timestamp x", "a: !!float x", "a: !!bool x", "!!float"]
)
def test_numbers_and_dates_that_are_none_are_refused(path, text):
    assert "a number, date or tagged value that is none" in complaint(path, text)


@pytest.mark.parametrize("number", ["9" * 5_000, "0x" + "f" * 5_000, "9" * 19])
def test_numbers_of_absurd_length_are_refused(path, number):
    assert "digits, line 1" in complaint(path, f"training: {{epochs: {number}}}")


def test_a_key_twice_is_refused_instead_of_losing_the_first_cameras(path):
    text = "cameras: [{id: a, url: x}]\ncameras: [{id: b, url: y}]"
    assert "the key 'cameras' twice, line 2" in complaint(path, text)


@pytest.mark.parametrize(
    "text",
    [
        f'cameras: {{url: "rtsp://u:\'{SECRET}@h"}}',
        f'cameras: "rtsp://u:a {SECRET}@h"',
        f'cameras: [[id, "rtsp://u:\'{SECRET}@h"]]',
        f'redis: "redis://:{SECRET} 1@h"',
        f'redis: {{url: ["redis://:{SECRET}@h"]}}',
        f'cameras: [{{id: "rtsp://u:\'{SECRET}@h", url: x}}]',
        f'"rtsp://u:\'{SECRET}@h": 1',
        f"url: 'rtsp://u:pa\n ss:@{SECRET}@h' x",
        f'redis: {{url: "redis://:{SECRET}@h"\nx: [',
    ],
)
def test_a_password_in_the_wrong_place_is_not_shown(path, text):
    complaint(path, text)


@pytest.mark.parametrize(
    "text",
    [
        "training: {epochs: '${PASSWORD}'}",
        "cameras: 'a${PASSWORD}'",
        "cameras: [{id: '${PASSWORD} ', url: x}]",
        "training: ['${PASSWORD}']",
        f'"rtsp://u:{SECRET}@h": "\\0"',
        f'"rtsp://u:{SECRET}@h": "${{UNSET}}"',
    ],
)
def test_a_variable_in_the_wrong_place_is_not_shown(path, text):
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"PASSWORD": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("where", ["model_folder", "url", "weights"])
@pytest.mark.parametrize("length", [300, 10_000])
def test_a_path_too_long_for_the_file_system_is_no_crash(path, where, length):
    value = "x" * length
    tree = {
        "model_folder": f"model_folder: {value}",
        "url": f"cameras: [{{id: a, url: {value}}}]",
        "weights": f"model: {{encoder: {{weights: {value}}}}}",
    }
    assert check_config(path, tree[where]) is not None


@pytest.mark.parametrize(
    "text", ['output: {folder: "a\\0b"}', 'model_folder: "\\ud800"', 'cameras: [{id: a, url: "\\0"}]']
)
def test_what_no_file_name_can_hold_is_refused(path, text):
    assert "expected text, got a NUL or half of a surrogate pair" in complaint(path, text)


@pytest.mark.parametrize("address", ["rtsp://h/\r\nHost: x", "a\nb", "redis://h\t"])
def test_an_address_with_control_characters_is_refused(address):
    for tree in ({"cameras": [{"id": "a", "url": address}]}, {"redis": {"url": address}}):
        with pytest.raises(ConfigError, match="expected an address without line breaks"):
            parse_config(tree)


def test_a_key_with_a_line_break_stays_one_line(path):
    assert r"'a\nb': unknown key" in complaint(path, '"a\\nb": 1')


@pytest.mark.parametrize(
    "tree",
    [
        {"image_size_px": [10**11, 32]},
        {"flow": {"blocks": 10**6}},
        {"flow": {"hidden_ratio": 1e308}},
        {"flow": {"condition_dims": 10**9}},
        {"flow": {"camera_embedding": 10**9}},
        {"encoder": {"seed": 2**64}},
        {"encoder": {"seed": -1}},
    ],
)
def test_a_model_larger_than_any_is_refused(tree):
    with pytest.raises(ConfigError, match="input should be"):
        parse_config({"model": tree})
