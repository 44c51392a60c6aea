"""What an address of Redis says."""

import pytest

from pipeline.errors import RedisError
from pipeline.sinks.redis_address import parse_redis_address
from pipeline.sinks.redis_servers import RedisServers


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "options"),
    [
        ("redis://u:p%40q@a:7/3", "single", [("a", 7)], {"username": "u", "password": "p@q", "db": 3}),
        ("redis://", "single", [("localhost", 6379)], {}),
        ("unix:///run/r.sock?db=2", "single", [], {"path": "/run/r.sock", "db": 2}),
        ("redis+cluster://a", "cluster", [("a", 6379)], {}),
        ("redis+cluster://:p@a:7,[::1]:8,10.0.0.7/0", "cluster", [("a", 7), ("::1", 8), ("10.0.0.7", 6379)], {}),
        ("redis+sentinel://a,b:7/mymaster", "sentinel", [("a", 26379), ("b", 7)], {}),
        ("rediss+sentinel://u:p@a/m/4?ssl_check_hostname=no", "sentinel", [("a", 26379)], {"db": 4, "username": "u"}),
    ],
)
def test_an_address_names_one_server_or_several(url, kind, nodes, options):
    address = parse_redis_address(url)
    assert (address.kind, list(address.nodes)) == (kind, nodes)
    assert options.items() <= address.options.items()
    assert "p@q" not in repr(address)
    RedisServers(url).close()


def test_the_sentinels_have_a_name_for_the_master_and_a_login_of_their_own():
    address = parse_redis_address("rediss+sentinel://:p@a/m?sentinel_username=u&sentinel_password=q")
    assert address.service == "m"
    assert address.sentinel_options == {"username": "u", "password": "q"}
    assert address.options["password"] == "p"
    assert not any(name.startswith("sentinel") for name in address.options)


@pytest.mark.parametrize(
    "url",
    [
        *("redis+cluster://:hunter2@", "redis+cluster://:hunter2@a,,b", "redis+cluster://:hunter2@a:x"),
        *("redis+cluster://:hunter2@a/1", "redis+cluster://:hunter2@a?db=1", "redis+cluster://:hunter2@a?hunter2=1"),
        *("redis+sentinel://:hunter2@a", "redis+sentinel://:hunter2@a/", "redis+sentinel://:hunter2@a/m/hunter2"),
        *("unix+cluster://:hunter2@a", "redis+other://:hunter2@a", "redis+sentinel://:hunter2@/m"),
    ],
)
def test_what_no_such_address_can_say_is_refused_without_the_password(url):
    with pytest.raises(RedisError, match=r"^redis\.url: expected ") as caught:
        RedisServers(url)
    assert "hunter2" not in str(caught.value)
