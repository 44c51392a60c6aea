"""What comes from outside, and what may come of it: one strategy and one check for each entry point.

Used by the tests beside this file, briefly and always alike, and by ``benchmarks/fuzz.py``, for as long as one likes.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.config_file import load_config, parse_config
from pipeline.console.alert_lines import alert_line
from pipeline.errors import CheckpointError, ConfigError, RedisError, VideoError
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, read_card, write_card
from pipeline.redaction import redact
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.video.source import open_source
from tests.fuzz.mutations import mutated
from tests.fuzz.video_worker import Worker
from tests.models.forging import fingerprint_of, read_values, write_values
from tests.videos import write_video

ROOT = Path(__file__).parents[2]
SECRET = "hush7hush"

seeds = st.integers(0, 2**32 - 1)
_text = st.text(max_size=60).filter(lambda text: SECRET not in text)  # Hypothesis knows the constants of this file
_odd = st.text(st.sampled_from("'\" <>@:/?#%&;=[]{}|\\^`~$é,!*()"), max_size=3)


# --- settings -----------------------------------------------------------------------------------------------------

EXAMPLES = tuple(path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*.yaml")))
_ENVIRONMENT = {"GATE_PASSWORD": SECRET}

_secret_address = st.builds("{}://admin:{}{}{}@10.0.0.7/main".format, st.just("rtsp"), _odd, st.just(SECRET), _odd)
_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**17])
    | st.floats()
    | _text
    | st.binary(max_size=5)
    | st.dates()
    | st.just(datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC))
    | st.sampled_from(["", "~", "${HOME}", "${X:-y}", "a" * 300, "rtsp://", "pretrained", "1e999", "nan", "../.."])
    | _secret_address,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from _places(tree[key], (*path, key))


def _replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _replaced(tree[path[0]], path[1:], value)
    return copy


@st.composite
def config_trees(draw: st.DrawFn) -> str:
    """An example configuration with other values in some places."""
    tree = yaml.safe_load(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        tree = _replaced(tree, draw(st.sampled_from(list(_places(tree)))), draw(_junk))
    return yaml.safe_dump(tree, allow_unicode=True)


config_bytes = st.builds(
    lambda text, seed: mutated(text.encode(), seed, [other.encode() for other in EXAMPLES]),
    st.sampled_from(EXAMPLES),
    seeds,
) | st.binary(max_size=200)


def check_config(path: Path, content: bytes | str, *, keeps_secrets: bool = True) -> Config | None:
    """A file becomes settings, or ConfigError with one line per fault."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        config = load_config(path, _ENVIRONMENT)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith(f"{path}: "), line
            assert line.isprintable(), repr(line)
        assert not keeps_secrets or SECRET not in str(error), str(error)
        return None
    assert isinstance(config, Config)
    assert not keeps_secrets or SECRET not in repr((config.cameras, config.redis)), repr(config)
    return config


# --- addresses of cameras -----------------------------------------------------------------------------------------

_SCHEMES = "rtsp rtsps RTSP http https rtmp ftp tcp hls tls file data pipe concat crypto cache async subfile gopher foo"
_scheme = st.sampled_from(_SCHEMES.split())
_between = st.sampled_from(["://", ":/", "//", ":", ":///", ""])
_user = st.sampled_from(["", "admin", "u:v"]) | _odd
_host = st.sampled_from(["127.0.0.1", "[::1]", "127.0.0.1:9", "127.0.0.1:99999", "127.0.0.1:-1", "127.1", "[::", ""])
_rest = _text | st.builds(
    "/{}?{}={}{}&x=1".format,
    _odd,
    st.sampled_from(["token", "password", "Pass", "api_key", "loginpas"]),
    st.just(SECRET),
    _odd,
)


def _address(scheme: str, between: str, user: str, before: str, after: str, host: str, rest: str) -> str:
    user_info = f"{user}:{before}{SECRET}{after}"
    if "://" not in between:  # mistyped; with blanks or another address in it, it could be any text
        user_info = user_info.replace(" ", "").replace("://", "")
    return f"{scheme}{between}{user_info}@{host}{rest}"


addresses = _text | st.builds(_address, _scheme, _between, _user, _odd, _odd, _host, _rest)


def check_address(address: str) -> None:
    """A camera's address opens, or is refused in one line without what is secret in it, soon."""
    try:
        camera = parse_config({"cameras": [{"id": "gate", "url": address}]}).cameras[0]
    except ConfigError as error:
        assert SECRET not in str(error)
        assert str(error).isprintable()
        return
    url = camera.url.get_secret_value()
    try:
        with open_source(url, (16, 16), open_timeout_s=0.2, read_timeout_s=0.2, name="gate") as source:
            next(iter(source), None)
    except VideoError as error:
        # What is printable is told by whoever prints; here only that it stays one line.
        assert len(str(error).splitlines()) == 1 or not address.isprintable(), str(error)
        assert SECRET not in redact(error), str(error)
        assert SECRET not in str(error), str(error)


# --- bytes of videos ----------------------------------------------------------------------------------------------


def write_base_videos(folder: Path) -> list[Path]:
    """Sound videos, one of each kind that cameras and recorders make."""
    kinds: dict[str, dict[str, Any]] = {
        "plain.mp4": {},
        "b_frames.mp4": {"b_frames": 2},
        "mpeg4.avi": {"codec": "mpeg4"},
        "msmpeg4.avi": {"codec": "msmpeg4v2"},
        "h264.mkv": {"b_frames": 2},
        "plain.mkv": {},
        "transport.ts": {},
        "b_frames.ts": {"b_frames": 2},
        "mpeg2.ts": {"codec": "mpeg2video"},
        "raw.h264": {"container_format": "h264"},
        "sound.mp4": {"audio": True},
        "flash.flv": {},
    }
    return [write_video(folder / name, 16, gop=5, **options) for name, options in kinds.items()]


def check_video(worker: Worker, bases: list[Path], which: int, seed: int, folder: Path) -> None:
    """A damaged video becomes frames or VideoError; what breaks that is kept under its own name."""
    base = bases[which % len(bases)]
    others = [path.read_bytes() for path in bases]
    path = folder / f"{base.stem}-{seed}{base.suffix}"
    path.write_bytes(mutated(base.read_bytes(), seed, others))
    worker.read(path)
    path.unlink()


# --- folders of models --------------------------------------------------------------------------------------------

_card_junk = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["../../etc", "a" * 300, "\x00"])
    | st.lists(st.integers(0, 9), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2)
)


def check_damaged_model(model: Path, folder: Path, name: str, seed: int, load: Callable[[Path], object]) -> None:
    """Damage to either file of a model is noticed: it is never loaded."""
    _copied(model, folder)
    sound = (folder / name).read_bytes()
    (folder / name).write_bytes(
        mutated(sound, seed, [(model / other).read_bytes() for other in (CARD_FILE, WEIGHTS_FILE)])
    )
    if (folder / name).read_bytes() != sound:
        assert _refuses(folder, load)


def check_forged_card(model: Path, folder: Path, forge: tuple[int, Any], load: Callable[[Path], object]) -> None:
    """A card whose digests fit, whatever it says, is refused in one line, or describes a model that loads."""
    _copied(model, folder)
    values = read_values(folder)
    places = [place for place in _places(values) if place]
    where, value = forge
    values = _replaced(values, places[where % len(places)], value)
    values["fingerprint"] = fingerprint_of(folder, values)
    write_values(folder, values)
    _refuses(folder, load)


def check_forged_weights(model: Path, folder: Path, seed: int, load: Callable[[Path], object]) -> None:
    """Weights that are no safetensors, or other tensors, are refused though the digests fit."""
    _copied(model, folder)
    card = read_card(folder)
    weights = folder / WEIGHTS_FILE
    weights.write_bytes(mutated(weights.read_bytes(), seed))
    write_card(card, folder)
    _refuses(folder, load)


forgeries = st.tuples(st.integers(0, 10**6), _card_junk)


def _copied(model: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)


def _refuses(folder: Path, load: Callable[[Path], object]) -> bool:
    try:
        load(folder)
    except CheckpointError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        return True
    return False


# --- entries in Redis ---------------------------------------------------------------------------------------------

_ALERT = {
    "version": 1, "kind": "new", "event_id": "gate-1", "camera_id": "gate", "emitted_at_s": 1.5, "start_s": 1.0,
    "end_s": None, "peak_score": 3.5, "threshold": 1.25, "reason": "no frames", "since_at_s": 1.0, "until_at_s": 2.5,
    "region": {"left": 0.1, "top": 0.2, "right": 0.3, "bottom": 0.4},
}  # fmt: skip
_json_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_not_ours = st.builds(
    lambda key, value: json.dumps({**_ALERT, key: value}).encode("utf-8", "surrogatepass"),
    st.sampled_from([*_ALERT, "other"]),
    _json_junk,
)
redis_values = (
    _not_ours
    | st.builds(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"), _json_junk)
    | st.builds(lambda seed: mutated(json.dumps(_ALERT).encode(), seed), seeds)
    | st.binary(max_size=40)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"1" * 5_000, b'{"kind":1e999}'])
)
_STATUS = {
    "camera_id": "gate", "state": "streaming", "conditions": ["dark"], "decoded": 9, "scored": 5, "scored_fps": 2.5,
    "dropped": {"corrupt": 2, "stale": 1}, "latency_p50_s": 0.1, "latency_p99_s": 0.2, "events": 1, "missing": 3,
    "error": "gone", "live": True,
}  # fmt: skip
foreign_statuses = st.builds(
    lambda changes, gone: json.dumps({k: v for k, v in {**_STATUS, **changes}.items() if k not in gone}).encode(),
    st.dictionaries(st.sampled_from(sorted(_STATUS)), _json_junk, max_size=3),
    st.sets(st.sampled_from(sorted(_STATUS)), max_size=3),
)
_RUN: dict[str, Any] = {
    "version": 1, "run": "run-1", "host": "box", "pid": 7, "started_at_s": 1.0, "state": "running", "updated_at_s": 2.0,
    "reason": "", "cameras": 1, "decoded": 5, "scored": 5, "dropped": {}, "alerts": {}, "troubles": ["x"], "faults": [],
}  # fmt: skip
foreign_runs = st.builds(
    lambda changes, gone: json.dumps({k: v for k, v in {**_RUN, **changes}.items() if k not in gone}).encode(),
    st.dictionaries(st.sampled_from(sorted(_RUN)), _json_junk, max_size=3),
    st.sets(st.sampled_from(sorted(_RUN)), max_size=3),
)
redis_fields = st.sampled_from([b"json", b"json", b"json", b"other", b"\xff"])


def check_redis(client: Any, url: str, field: bytes, value: bytes) -> None:
    """Whatever others wrote under our keys is shown, or named in one line."""
    client.flushall()
    client.xadd("cflow:alerts", {field: value}, id="5-0")
    client.xadd("cflow:scores:gate", {field: value}, id="5-0")
    client.hset("cflow:cameras", field, value)
    readers: list[Callable[[], list[dict[str, Any]]]] = [
        lambda: list(read_alerts(url)),
        lambda: read_scores(url, "gate"),
        lambda: list(read_statuses(url).values()),
    ]
    for number, read in enumerate(readers):
        try:
            entries = read()
        except RedisError as error:
            assert str(error).isprintable(), str(error)
            continue
        for entry in entries:
            json.dumps(entry, allow_nan=False)  # what `--json` does
            if number == 0 and (entry.get("peak_score") is None or entry.get("threshold") is not None):
                str(alert_line(entry))
