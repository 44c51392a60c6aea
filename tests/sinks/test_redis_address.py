"""What an address of Redis says."""

from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config_file import parse_config
from pipeline.errors import BadInputError, RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_address import parse_redis_address
from pipeline.sinks.redis_client import connect
from pipeline.sinks.redis_servers import RedisServers
from tests.passwords import passwords, pieces_shown


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
        "rediss://:hunter2@a?ssl_cert_reqs=hunter2",
    ],
)
def test_what_no_such_address_can_say_is_refused_without_the_password(url):
    with pytest.raises(RedisError, match=r"^redis\.url: expected ") as caught:
        RedisServers(url)
    assert "hunter2" not in str(caught.value)


# --- passwords ----------------------------------------------------------------------------------------------------


def redis_options(address):
    url = parse_config({"redis": {"url": address}}).redis.url.get_secret_value()
    return connect(url, retries=0).connection_pool.connection_kwargs


@pytest.mark.parametrize(
    "address",
    [
        "redis://:57#Wc903z@cache",
        "redis://:top@secret/x@cache",
        "redis://user:12/Wc903z@cache:6379/0",
        "redis://:Wc903z",
        "redis://:Wc903z@",
        "redis://:Wc903z@:6379",
        "redis://:Wc%ff3z@cache",
        "redis://cache/Wc903z",
        "redis://cache:6379/-1",
        "redis://cache:6379/1/2",
        "redis://cache:6379/1?db=2",
        "redis://cache:0",
        "redis://cache:65536",
        "redis://ca..che",
        "redis://:Wc903z@cache:6379,other:6379",
        "redis://cache?password=Wc#903z",
        "redis://cache?password=Wc+903z",
        "redis://cache?password=Wc&903z",
        "redis://cache?password=a&password=Wc903z",
        "redis://cache?passwort=Wc903z",
        "unix://run/redis.sock",
        "unix://:Wc/903z@/run/redis.sock",
        "unix:///run/redis.sock?password=Wc#903z",
    ],
)
def test_a_redis_address_that_would_be_read_otherwise_than_it_is_meant_is_refused_in_one_line(address):
    with pytest.raises(BadInputError) as caught:
        redis_options(address)
    (line,) = str(caught.value).splitlines()
    assert "redis.url: expected " in line
    assert not any(word in line for word in ("Wc", "57", "3z", "903", "secret/x"))


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("redis://", {}),
        ("redis:///0", {"db": 0}),
        ("redis://cache", {"host": "cache"}),
        ("redis://cache:6390/3", {"host": "cache", "port": 6390, "db": 3}),
        ("rediss://reader@cache/", {"host": "cache", "username": "reader"}),
        ("redis://[::1]:6390/?db=3", {"host": "::1", "port": 6390, "db": 3}),
        ("redis://u%3A:p%23%2F%40%25@cache", {"host": "cache", "username": "u:", "password": "p#/@%"}),
        ("redis://:a[b@c@cache/1", {"host": "cache", "password": "a[b@c", "db": 1}),
        ("redis://cache/1?password=a%2541%2B%26", {"host": "cache", "password": "a%41+&", "db": 1}),
        ("unix:///r/a@b?db=2&username=u&password=p@s", {"path": "/r/a@b", "db": 2, "username": "u", "password": "p@s"}),
        ("unix://u:p%2Fss@/run/redis.sock", {"path": "/run/redis.sock", "username": "u", "password": "p/ss"}),
    ],
)  # fmt: skip
def test_a_redis_address_is_read_as_it_is_written(address, read):
    options = redis_options(address)
    named = ("host", "port", "path", "username", "password", "db")
    assert {name: options[name] for name in named if options.get(name) is not None} == read


@settings(max_examples=120)
@given(password=passwords, scheme=st.sampled_from(["redis", "rediss"]))
@example(password="57#Wc903z", scheme="redis")
@example(password="top@secret/x", scheme="redis")
def test_any_password_of_redis_is_read_as_it_is_with_its_host_or_refused_unseen(password, scheme):
    try:
        options = redis_options(f"{scheme}://viewer:{password}@cache.example:6390/2")
    except BadInputError as error:
        assert not pieces_shown(password, str(error))
    else:
        read = [options.get(name) for name in ("host", "port", "db", "username", "password")]
        assert read == ["cache.example", 6390, 2, "viewer", unquote(password) or None]


@settings(max_examples=120)
@given(password=passwords, kind=st.sampled_from(["cluster", "sentinel"]))
@example(password="57#Wc903z", kind="sentinel")
def test_any_password_of_several_redis_is_read_as_it_is_with_its_hosts_or_refused_unseen(password, kind):
    path = "mymaster/2" if kind == "sentinel" else "0"
    try:
        read = parse_redis_address(f"rediss+{kind}://viewer:{password}@a.example:7001,b.example:7002/{path}")
    except BadInputError as error:
        assert not pieces_shown(password, str(error))
    else:
        assert read.nodes == (("a.example", 7001), ("b.example", 7002))
        assert (read.options["username"], read.options.get("password", "")) == ("viewer", unquote(password))
        assert (read.service, read.options.get("db", 0)) == (("mymaster", 2) if kind == "sentinel" else ("", 0))


@settings(max_examples=120)
@given(password=passwords.filter(lambda text: "=" not in text))  # with "=" a further option of redis-py may follow
@example(password="correct horse")
def test_any_password_behind_a_redis_socket_is_read_as_it_is_or_refused_unseen(password):
    try:
        options = redis_options(f"unix:///run/redis.sock?password={password}")
    except BadInputError as error:
        assert not pieces_shown(password, str(error))
    else:
        assert (options["path"], options["password"]) == ("/run/redis.sock", unquote(password))
        assert not pieces_shown(password, redact(f"unix:///run/redis.sock?password={password}"))
