import os
import signal
import threading
from contextlib import ExitStack

import pytest

from pipeline.config import Config, RedisSettings
from pipeline.config_file import load_config
from pipeline.errors import BadInputError, RedisError
from pipeline.sinks import locate
from pipeline.sinks.locate import readable_redis, run_redis, state_folder
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_reader import read_alerts
from tests.sinks.made import SinkWithStore, alert, wait_until


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write_alert(url, folder):
    sink = SinkWithStore(url, folder)
    sink.write([], [alert(1)])
    sink.close()


@pytest.mark.redis
@pytest.mark.server
def test_an_embedded_run_is_found_while_it_lasts_and_its_alerts_after_it_ended(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
        with readable_redis(None) as found:
            assert found == url
    for _ in range(2):
        with readable_redis(None) as url:
            assert len(list(read_alerts(url))) == 1


def kill_redis_of(folder):
    """End the run's embedded server as the kernel would that is short of memory."""
    kind = "Redis is starting"
    pid = [line for line in (folder / "redis" / "redis.log").read_text().splitlines() if kind in line][-1].split(":")[0]
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.redis
@pytest.mark.server
def test_a_reader_is_served_by_a_run_whose_redis_was_just_killed(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
        for _ in range(3):
            kill_redis_of(folder)
            with readable_redis(None) as found:
                assert found == url
                assert len(list(read_alerts(url))) == 1
    with readable_redis(None) as url:
        assert len(list(read_alerts(url))) == 1


@pytest.mark.redis
@pytest.mark.server
def test_a_redis_that_does_not_come_back_is_told_after_a_while_for_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "_BACK_WITHIN_S", 0.3)
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
        for log in (folder / "redis").rglob("*.aof"):
            log.write_bytes(b"no log of commands\r\n" * 3)
        kill_redis_of(folder)
        # One that is started on the damaged log may just be ending.
        with pytest.raises(RedisError, match=r"nobody answers there|ends the connection"), readable_redis(None):
            pass


def test_who_waits_for_the_redis_of_a_config_gets_it_once_it_is_there_and_others_an_error(server, tmp_path, caplog):
    config_file = tmp_path / "config.yaml"
    config_file.write_text(f"redis: {{url: '{server.url}'}}\n")
    server.kill()
    with pytest.raises(RedisError, match="nobody answers there"), readable_redis(config_file):
        pass
    found = []

    def wait():
        with readable_redis(config_file, waits=True) as url:
            found.append(url)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    wait_until(lambda: "waiting for it" in caplog.text)
    server.start()
    waiting.join(10)
    assert found == [server.url]


@pytest.mark.redis
@pytest.mark.server
def test_two_late_readers_share_what_a_run_left(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
    with readable_redis(None) as one, readable_redis(None) as other:
        assert one == other
        assert len(list(read_alerts(other))) == 1


def answers(url):
    try:
        check_redis(url)
    except RedisError:
        return False
    return True


@pytest.mark.redis
@pytest.mark.server
def test_a_late_reader_is_served_when_the_one_leaves_that_served_it(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(readable_redis(None))
        url = second.enter_context(readable_redis(None))
        following = read_alerts(url, follow=True)
        assert next(following)["peak_index"] == 1
        first.close()
        wait_until(lambda: answers(url))
        assert len(list(read_alerts(url))) == 1
        with run_redis(Config(), tmp_path / "config.yaml", folder) as of_run:  # and a run still comes before it
            sink = SinkWithStore(of_run, folder)
            sink.write([], [alert(2)])
            assert next(following)["peak_index"] == 2
            sink.close()
    assert not answers(url)


@pytest.mark.redis
@pytest.mark.server
def test_a_reader_of_a_run_is_served_also_after_its_end(tmp_path):
    folder = tmp_path / "run"
    with ExitStack() as run:
        url = run.enter_context(run_redis(Config(), tmp_path / "config.yaml", folder))
        write_alert(url, folder)
        with readable_redis(None) as found:
            run.close()
            wait_until(lambda: answers(found))
            assert len(list(read_alerts(found))) == 1


@pytest.mark.redis
@pytest.mark.server
def test_who_follows_an_ended_run_does_not_keep_the_next_one_from_starting_and_hears_of_it(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
    with readable_redis(None) as url:
        following = read_alerts(url, follow=True)
        assert next(following)["peak_index"] == 1
        with run_redis(Config(), tmp_path / "config.yaml", folder) as of_run:
            sink = SinkWithStore(of_run, folder)
            sink.write([], [alert(2)])
            assert next(following)["peak_index"] == 2
            sink.close()
        with run_redis(Config(), tmp_path / "config.yaml", folder) as of_run:
            sink = SinkWithStore(of_run, folder)
            sink.write([], [alert(3)])
            assert next(following)["peak_index"] == 3
            sink.close()


@pytest.mark.redis
@pytest.mark.server
def test_a_readers_config_need_not_be_sound_beyond_what_readers_read(tmp_path, monkeypatch):
    monkeypatch.delenv("GATE_PASSWORD", raising=False)
    config_file = tmp_path / "config.yaml"
    config_file.write_text(
        f"output: {{folder: '{tmp_path}/run'}}\ncameras: [{{id: gate, url: 'rtsp://u:${{GATE_PASSWORD}}@h'}}]\n"
    )
    with run_redis(Config(), config_file, tmp_path / "run") as url:
        with readable_redis(config_file) as found:
            assert found == url
        assert state_folder(config_file) == tmp_path / "run"


def test_an_external_redis_is_checked_first_and_its_password_is_not_written_down(tmp_path, server, monkeypatch):
    server.client().execute_command("CONFIG", "SET", "requirepass", "hunter2")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    config_file = tmp_path / "config.yaml"
    url = server.url.replace("unix://", "unix://:${REDIS_PASSWORD}@")
    config_file.write_text(f"redis: {{url: '{url}'}}\n", encoding="utf-8")
    with run_redis(load_config(config_file), config_file, tmp_path / "run") as url:
        check_redis(url)
    assert "hunter2" not in (tmp_path / "run" / "run.json").read_text()
    with readable_redis(None) as found:
        assert found == url
    with readable_redis(config_file) as found:
        assert found == url


def test_a_reader_finds_the_record_of_the_former_run_or_of_the_next_and_never_a_part(tmp_path, server):
    config_file = tmp_path / "config.yaml"
    config_file.write_text(f"redis: {{url: '{server.url}'}}\n", encoding="utf-8")
    record, newest = tmp_path / "run" / "run.json", tmp_path / "state" / "cflow-stream" / "latest"
    with run_redis(Config(), config_file, tmp_path / "run"):
        former = record.read_text(), newest.read_text()
        opened = [path.open(encoding="utf-8") for path in (record, newest)]  # by readers that are slow to read
    with run_redis(load_config(config_file), config_file, tmp_path / "run"):
        assert tuple(file.read() for file in opened) == former
        assert record.read_text() != former[0]
    for file in opened:
        file.close()


def test_an_external_redis_that_nobody_answers_ends_the_run_before_it_starts(tmp_path):
    config = Config(redis=RedisSettings.model_validate({"url": f"unix://{tmp_path}/none.sock"}))
    with (
        pytest.raises(RedisError, match="nobody answers there"),
        run_redis(config, tmp_path / "config.yaml", tmp_path / "run"),
    ):
        pass


def test_without_any_run_it_is_said():
    with pytest.raises(BadInputError, match="found none; name one with --config"), readable_redis(None):
        pass
