import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.config_file import load_config, parse_config
from pipeline.errors import ConfigError
from tests.sinks.receiver import self_made_certificate

FOLDER = Path(__file__).parent.parent / "configs"
OF_OTHER_PROGRAMS = {"cluster", "monitoring"}  # Ray, Kubernetes, Prometheus
CONFIGS = sorted(path for path in FOLDER.rglob("*.yaml") if path.relative_to(FOLDER).parts[0] not in OF_OTHER_PROGRAMS)


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_project_loads(path, monkeypatch):
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")), "secret")
    assert isinstance(load_config(path, environment), Config)


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


def test_an_unknown_key_is_named_with_its_path_and_its_neighbours(tmp_path):
    path = written(tmp_path, "cameras:\n- {id: a, url: x.mp4, alerts: {quantil: 0.9}}\n")
    with pytest.raises(ConfigError, match=r"cameras\.a\.alerts\.quantil: unknown key; expected one of: .*quantile"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("none.yaml", "got: No such file or directory"),
        ("", "got: Is a directory"),
        ("x.mp4", "got bytes that are no UTF-8"),
    ],
)
def test_a_config_that_cannot_be_read_is_answered_in_words(tmp_path, name, got):
    (tmp_path / "x.mp4").write_bytes(b"\xff\xfe")
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: expected a readable YAML file, {got}"


def test_a_wrong_value_is_answered_with_what_was_expected_and_what_came():
    with pytest.raises(ConfigError, match=r"training\.epochs: .*greater than 0, got -3"):
        parse_config({"training": {"epochs": -3}})


def test_every_fault_gets_a_line_of_its_own():
    with pytest.raises(ConfigError) as caught:
        parse_config({"training": {"epochs": 0}, "runtime": {"device": "tpu"}, "oops": 1})
    assert len(str(caught.value).splitlines()) == 3


def complaints(**sections):
    with pytest.raises(ConfigError) as caught:
        parse_config(sections)
    return str(caught.value).splitlines()


def test_a_wrong_default_is_told_once_however_many_cameras_it_holds_for():
    wrong = {"sample_fps": -1, "colour": "red", "health": {"dark_s": 0}, "alerts": {"quantile": 0.5}}
    cameras = [{"id": f"c{number}", "url": "x.mp4", "alerts": {"open_frames": 1}} for number in range(3)]
    lines = complaints(camera_defaults=wrong, cameras=cameras)
    assert sorted(line.split(": ")[1] for line in lines) == [
        "camera_defaults.alerts",
        "camera_defaults.colour",
        "camera_defaults.health.dark_s",
        "camera_defaults.sample_fps",
    ]


def test_a_cameras_own_fault_is_told_beside_the_same_one_of_the_defaults():
    cameras = [{"id": "gate", "url": "x.mp4", "sample_fps": -1}, {"id": "yard", "url": "y.mp4"}]
    first, second = complaints(camera_defaults={"sample_fps": -1}, cameras=cameras)
    assert first.startswith("config: camera_defaults.sample_fps: ")
    assert second.startswith("config: cameras.gate.sample_fps: ")


def test_a_fault_of_a_camera_is_told_with_its_id_and_with_its_number_where_that_names_nobody():
    fault = {"url": "x", "sample_fps": 0}
    cameras = [{"id": "gate", **fault}, fault, {"id": "a/b", **fault}, {"id": "twin", **fault}, {"id": "Twin", **fault}]
    where = [line.split(": ")[1] for line in complaints(cameras=cameras) if "greater than 0" in line]
    assert where == [f"cameras.{name}.sample_fps" for name in ("gate", 1, 2, 3, 4)]


def test_a_camera_listed_twice_is_named():
    cameras = [{"id": "gate", "url": "a"}, {"id": "Gate", "url": "b"}]
    with pytest.raises(ConfigError, match="expected every id once, got 'Gate' twice"):
        parse_config({"cameras": cameras})


@given(st.text(max_size=80))
def test_an_accepted_camera_id_is_a_safe_folder_and_key_name(text):
    try:
        camera_id = parse_config({"cameras": [{"id": text, "url": "x"}]}).cameras[0].id
    except ConfigError as error:
        assert "cameras.0.id" in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", camera_id)
        assert ".." not in camera_id
        assert Path(camera_id).name == camera_id


@pytest.mark.parametrize("bad", ["../x", "a/b", "..", "", "a b", "-a", "x" * 65])
def test_a_camera_id_that_could_leave_its_folder_is_refused(bad):
    with pytest.raises(ConfigError, match=r"cameras\.0\.id"):
        parse_config({"cameras": [{"id": bad, "url": "x"}]})


def test_a_camera_overrides_defaults_key_by_key():
    config = parse_config(
        {
            "camera_defaults": {"sample_fps": 2, "alerts": {"quantile": 0.999, "open_frames": 7}},
            "cameras": [{"id": "a", "url": "x", "alerts": {"open_frames": 1}}, {"id": "b", "url": "y"}],
        }
    )
    a, b = config.cameras
    assert (a.sample_fps, a.alerts.quantile, a.alerts.open_frames) == (2, 0.999, 1)
    assert (b.sample_fps, b.alerts.quantile, b.alerts.open_frames) == (2, 0.999, 7)


@pytest.mark.parametrize("defaults", [{"budget": "2/hour"}, {"quantile": 0.999}, {}])
@pytest.mark.parametrize("own", [{"budget": "1/week"}, {"quantile": 0.99}])
def test_a_cameras_own_way_to_choose_a_threshold_takes_the_place_of_the_defaults_whichever_it_is(defaults, own):
    cameras = [{"id": "a", "url": "a.mp4", "alerts": own}, {"id": "b", "url": "b.mp4", "alerts": {"close_s": 9}}]
    config = parse_config({"camera_defaults": {"alerts": {"open_frames": 7, **defaults}}, "cameras": cameras})
    a, b = (camera.alerts for camera in config.cameras)
    assert (a.budget, a.quantile, a.open_frames) == (own.get("budget"), own.get("quantile"), 7)
    expected = defaults or {"budget": "1/day"}
    assert (b.budget, b.quantile, b.close_s) == (expected.get("budget"), expected.get("quantile"), 9)


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ({"budget": "1/day", "quantile": 0.99}, "expected a budget or a quantile, got both ('1/day' and 0.99)"),
        ({"budget": "often"}, ".budget: expected a number of events in a time, .* such as '1/day'.*, got 'often'"),
        ({"budget": 3}, ".budget: input should be a valid string, got 3"),
        ({"quantile": 0.9}, "close_quantile: expected at most quantile (0.9), got 0.98"),
    ],
)
def test_a_budget_that_is_none_or_that_is_not_alone_gets_one_line(alerts, said):
    for section in ({"camera_defaults": {"alerts": alerts}}, {"cameras": [{"id": "a", "url": "a", "alerts": alerts}]}):
        cameras = [{"id": "b", "url": "b.mp4"}, *section.get("cameras", [])]
        with pytest.raises(ConfigError) as raised:
            parse_config({**section, "cameras": cameras})
        (line,) = str(raised.value).splitlines()
        assert re.search(said.replace("(", r"\(").replace(")", r"\)"), line), line


def test_variables_are_filled_from_the_environment_and_defaults(tmp_path):
    path = written(tmp_path, "cameras: [{id: a, url: 'rtsp://u:${PW}@h/${CH:-main}'}]")
    camera = load_config(path, {"PW": "s3cret"}).cameras[0]
    assert camera.url.get_secret_value() == "rtsp://u:s3cret@h/main"


def test_a_variable_that_is_not_set_is_named(tmp_path):
    path = written(tmp_path, "redis: {url: '${CFLOW_REDIS}'}")
    with pytest.raises(ConfigError, match=r"redis\.url: expected the environment variable CFLOW_REDIS"):
        load_config(path, {})
    path = written(tmp_path, "cameras: [{id: gate, url: 'rtsp://v:${GATE_PASSWORD}@h'}]")
    with pytest.raises(ConfigError, match=r"cameras\.gate\.url: expected the environment variable GATE_PASSWORD"):
        load_config(path, {})


def test_what_stands_in_a_section_that_is_not_asked_for_does_not_matter(tmp_path):
    text = "redis: {url: 'redis://:${REDIS}@h'}\ncameras: [{url: 'rtsp://u:${GATE}@h'}]\nruntime: {threads: -1}\n"
    path = written(tmp_path, text)
    config = load_config(path, {"REDIS": "s3cret"}, only={"redis", "output"})
    assert config.redis.url.get_secret_value() == "redis://:s3cret@h"
    assert (config.cameras, config.runtime) == (Config().cameras, Config().runtime)
    assert load_config(path, {}, only={"output"}) == Config()
    with pytest.raises(ConfigError, match=r"redis\.url: expected the environment variable REDIS, got nothing"):
        load_config(path, {"GATE": "x"}, only={"redis"})


def test_a_key_that_is_no_section_is_refused_whatever_is_asked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"redsi: unknown key; expected one of: .*redis"):
        load_config(written(tmp_path, "redsi: {url: 'redis://h'}"), only={"output"})


def test_addresses_never_print(tmp_path):
    config = parse_config({"cameras": [{"id": "a", "url": "rtsp://u:hush@h"}], "redis": {"url": "redis://:hush@h"}})
    assert "hush" not in repr(config)
    assert "hush" not in config.model_dump_json()
    with pytest.raises(ConfigError) as caught:
        parse_config({"cameras": [{"id": "a", "url": ["rtsp://u:hush@h"]}]})
    assert "hush" not in str(caught.value)


def test_files_are_looked_up_beside_the_yaml_first(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    path = written(tmp_path, "cameras: [{id: a, url: clip.mp4}, {id: b, url: elsewhere.mp4}]")
    a, b = load_config(path).cameras
    assert a.url.get_secret_value() == str((tmp_path / "clip.mp4").resolve())
    assert b.url.get_secret_value() == "elsewhere.mp4"


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00", "just words"])
def test_a_file_that_is_no_yaml_mapping_is_one_clear_line(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_image_size_must_fit_the_coarsest_stride():
    with pytest.raises(ConfigError, match="multiples of the coarsest stride 32"):
        parse_config({"model": {"image_size_px": [250, 256]}})


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"strides": []}, r"strides: expected rising values without repeats, got \[\]"),
        ({"strides": [16, 16]}, r"strides: expected rising values without repeats, got \[16, 16\]"),
        ({"blocks": [3, 3]}, r"blocks: expected rising values without repeats, got \[3, 3\]"),
        ({"blocks": [-1]}, r"blocks\.0: .*-1"),
        ({"blocks": [3, 7], "strides": [14]}, r"strides: expected none, or one for each of the blocks \[3, 7\], got"),
    ],
)
def test_levels_that_contradict_themselves_are_named(encoder, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config({"model": {"encoder": encoder}})
    assert len(str(caught.value).splitlines()) == 1


def test_levels_by_block_leave_their_strides_to_the_model():
    encoder = parse_config({"model": {"image_size_px": [252, 378], "encoder": {"blocks": [3, 7]}}}).model.encoder
    assert (encoder.strides, encoder.level_names) == ((), ("block 3", "block 7"))


WEBHOOK = {"kind": "webhook", "url": "https://alarms.example.org/hook?token=hunter2", "secret": "hunter2" * 3}


def test_a_sink_is_read_by_its_kind():
    first, second = parse_config({"sinks": [WEBHOOK, {**WEBHOOK, "name": "pager", "timeout_s": 3}]}).sinks
    assert (first.sink_name, second.sink_name) == ("webhook", "pager")
    assert second.model_dump()["timeout_s"] == 3.0
    assert "hunter2" not in repr((first, second))


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ({"kind": "webhok"}, "sinks.0: expected a kind that is one of apprise, mqtt, webhook, got 'webhok'"),
        ({"url": "https://x"}, "sinks.0: expected a kind that is one of apprise, mqtt, webhook, got none"),
        ({"kind": ["webhook"]}, "sinks.0: expected a kind that is one of apprise, mqtt, webhook, got ['webhook']"),
        ("webhook", "sinks.0: expected a mapping with the key 'kind', got str"),
        (
            {**WEBHOOK, "url": "ftp://me:hunter2@x"},
            "sinks.0.url: expected an address that begins with https:// or http://",
        ),
        ({**WEBHOOK, "secret": "hunter2"}, "sinks.0.secret: value should have at least 16 items"),
        ({**WEBHOOK, "secret": {"a": "hunter2"}}, "sinks.0.secret: input should be a valid string"),
        ({**WEBHOOK, "color": 1}, "sinks.0.color: unknown key; expected one of: ca_file, cooldown_s, digest_s, kind,"),
        ({**WEBHOOK, "timeout_s": 0}, "sinks.0.timeout_s: input should be greater than 0, got 0"),
        ({**WEBHOOK, "timeout_s": 1e300}, "sinks.0.timeout_s: input should be less than or equal to 600, got 1e+300"),
        ({**WEBHOOK, "name": {"secret": "hunter2"}}, "sinks.0.name: input should be a valid string, got a mapping"),
        (
            {**WEBHOOK, "ca_file": "/nowhere.pem"},
            "sinks.0.ca_file: expected a file of certificates (PEM; No such file or directory), got '/nowhere.pem'",
        ),
        ({**WEBHOOK, "name": "a b"}, "sinks.0.name: "),
        ({"kind": "webhook"}, "sinks.0.url: expected a value, got nothing"),
        ({**WEBHOOK, "name": "redis"}, "expected a name of its own for each, got 'redis' twice"),
    ],
)
def test_a_wrong_sink_is_answered_in_one_line_without_its_secrets(sink, said):
    lines = complaints(sinks=[sink])
    assert lines[0].startswith("config: ")
    assert said in lines[0]
    assert "hunter2" not in "".join(lines)


def test_a_sink_that_stands_where_the_list_should_be_shows_no_secret():
    assert complaints(sinks={"kind": "webhook", "secret": "hunter2" * 3}) == [
        "config: sinks: input should be a valid tuple, got a mapping"
    ]


def test_a_kind_that_came_from_a_variable_is_shown_as_it_stands_in_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"one of apprise, mqtt, webhook, got '\$\{KIND\}'$"):
        load_config(written(tmp_path, "sinks: [{kind: '${KIND}'}]"), {"KIND": "hunter2"})


def test_two_sinks_of_one_name_are_refused():
    assert complaints(sinks=[WEBHOOK, WEBHOOK]) == [
        "config: top level: sinks: expected a name of its own for each, got 'webhook' twice"
    ]


def test_a_sinks_secret_comes_from_the_environment_and_its_certificates_from_beside_the_file(tmp_path):
    certificate, _ = self_made_certificate(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "sinks: [{kind: webhook, url: 'https://x/', secret: '${HOOK_SECRET}', ca_file: certificate.pem}]"
    )
    (sink,) = load_config(tmp_path / "c.yaml", {"HOOK_SECRET": "s" * 16}).sinks
    assert sink.model_dump()["secret"].get_secret_value() == "s" * 16
    assert sink.model_dump()["ca_file"] == certificate
    with pytest.raises(
        ConfigError, match=r"sinks\.0\.secret: expected the environment variable HOOK_SECRET, got nothing"
    ):
        load_config(tmp_path / "c.yaml", {})


def test_a_clip_is_read_as_any_camera_is_but_not_thinned():
    config = parse_config({"camera_defaults": {"sample_fps": 5, "buffer_frames": 3, "alerts": {"open_frames": 7}}})
    clip = config.clip_settings("07_008", "/data/07_008.avi", "07")
    assert (clip.id, clip.url.get_secret_value(), clip.scene_name) == ("07_008", "/data/07_008.avi", "07")
    assert (clip.sample_fps, clip.buffer_frames, clip.alerts.open_frames, clip.image_fps) == (None, 3, 7, None)


@pytest.mark.parametrize("url", ["gate.mp4", "file:///footage/gate.mp4", "footage/gate"])
def test_a_file_or_folder_that_loops_is_a_live_camera(url):
    (looped, plain) = parse_config(
        {"cameras": [{"id": "a", "url": url, "loop": True}, {"id": "b", "url": url}]}
    ).cameras
    assert (looped.is_live, plain.is_live) == (True, False)


def test_a_live_address_does_not_loop():
    (line,) = complaints(cameras=[{"id": "gate", "url": "rtsp://me:s3cret@camera/main", "loop": True}])
    assert line.endswith("cameras.gate: loop: expected a file or a folder as url, got rtsp://, which is live as it is")


def test_a_folder_of_images_may_say_how_fast_it_was_filmed_and_a_live_address_may_not():
    (folder,) = parse_config({"cameras": [{"id": "a", "url": "footage/gate", "image_fps": 12.5}]}).cameras
    assert folder.image_fps == 12.5
    (line,) = complaints(cameras=[{"id": "gate", "url": "rtsp://me:s3cret@camera/main", "image_fps": 25}])
    assert line.endswith("cameras.gate: image_fps: expected a folder of images as url, got rtsp://")
    (line,) = complaints(cameras=[{"id": "gate", "url": "footage/gate", "image_fps": 1e9}])
    assert "cameras.gate.image_fps: " in line


def test_only_cameras_loop():
    (line,) = complaints(camera_defaults={"loop": True})
    assert "camera_defaults.loop: unknown key" in line


def test_fewer_detectors_at_most_than_at_least_are_refused():
    with pytest.raises(ConfigError, match=r"max_detectors: expected at least detectors \(4\), got 2"):
        parse_config({"runtime": {"detectors": 4, "max_detectors": 2}})
    assert parse_config({"runtime": {"max_detectors": 2}}).runtime.max_detectors == 2
