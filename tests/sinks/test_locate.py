import os
import signal

import pytest

from pipeline.config import Config, RedisSettings
from pipeline.config_file import load_config
from pipeline.errors import BadInputError, RedisError
from pipeline.sinks.locate import readable_redis, run_redis
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_reader import read_alerts
from tests.sinks.made import SinkWithStore, alert


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write_alert(url, folder):
    sink = SinkWithStore(url, folder)
    sink.write([], [alert(1)])
    sink.close()


def test_an_embedded_run_is_found_while_it_lasts_and_its_alerts_after_it_ended(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
        with readable_redis(None) as found:
            assert found == url
    for _ in range(2):
        with readable_redis(None) as url:
            assert len(list(read_alerts(url))) == 1


def test_a_run_whose_redis_was_killed_is_not_waited_for(tmp_path):
    folder = tmp_path / "run"
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        write_alert(url, folder)
    with run_redis(Config(), tmp_path / "config.yaml", folder) as url:
        pid = int((folder / "redis" / "redis.log").read_text().splitlines()[-1].split(":")[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pytest.raises(RedisError, match="another run's embedded Redis uses it"), readable_redis(None):
            pass
    with readable_redis(None) as url:
        assert len(list(read_alerts(url))) == 1


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
