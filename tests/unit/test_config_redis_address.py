"""REDIS_URL: every form, and refusals that never repeat what may be a password."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.config.redis_address import RedisAddress, RedisLogin, RedisTls, parse_redis_url

NODES = (("a", 26379), ("b", 7))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://r", RedisAddress("server", (("r", 6379),))),
        ("redis://[::1]:7/3", RedisAddress("server", (("::1", 7),), db=3)),
        ("REDIS://r/?db=2&protocol=resp3", RedisAddress("server", (("r", 6379),), db=2)),
        ("redis://:p%40%2F@r", RedisAddress("server", (("r", 6379),), login=RedisLogin(None, "p@/"))),
        ("redis://u:p@q@r", RedisAddress("server", (("r", 6379),), login=RedisLogin("u", "p@q"))),
        ("redis://u@r", RedisAddress("server", (("r", 6379),), login=RedisLogin("u"))),
        ("rediss://r", RedisAddress("server", (("r", 6379),), tls=RedisTls())),
        ("rediss://r/#insecure", RedisAddress("server", (("r", 6379),), tls=RedisTls(False, False))),
        (
            "rediss://r?ssl_ca_certs=/c.pem&ssl_certfile=/m.pem&ssl_keyfile=/k.pem&ssl_check_hostname=no",
            RedisAddress("server", (("r", 6379),), tls=RedisTls(True, False, "/c.pem", "/m.pem", "/k.pem")),
        ),
        ("rediss://r?ssl_cert_reqs=none", RedisAddress("server", (("r", 6379),), tls=RedisTls(False, False))),
        ("unix:///run/r.sock", RedisAddress("socket", path="/run/r.sock")),
        (
            "redis+unix:///run/r.sock?db=1&user=u&pass=p",
            RedisAddress("socket", path="/run/r.sock", db=1, login=RedisLogin("u", "p")),
        ),
        ("redis+sentinel://a,b:7/m", RedisAddress("sentinel", NODES, service="m")),
        (
            "rediss+sentinel://u:p@a,b:7/m/4?sentinel_username=s&sentinel_password=t",
            RedisAddress(
                "sentinel",
                NODES,
                service="m",
                db=4,
                login=RedisLogin("u", "p"),
                sentinel_login=RedisLogin("s", "t"),
                tls=RedisTls(),
            ),
        ),
        ("redis+cluster://a:26379,b:7", RedisAddress("cluster", NODES)),
    ],
)
def test_every_form(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:geheim@r:1/2", "redis://r:1/2"),
        ("rediss+sentinel://:geheim@a,b:7/m?sentinel_password=geheim", "rediss+sentinel://a:26379,b:7/m"),
        ("redis+cluster://:geheim@[::1]:7", "redis+cluster://[::1]:7"),
        ("unix:///r.sock?pass=geheim", "unix:///r.sock"),
    ],
)
def test_it_is_shown_without_secrets(url: str, shown: str) -> None:
    address = parse_redis_url(url)
    assert str(address) == shown
    assert "geheim" not in repr(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://geheim", "scheme"),
        ("geheim", "scheme"),
        ("redis://", "no host"),
        ("redis://geheim@:1", "host or port"),
        ("redis://:geheim@h:port", "host or port"),
        ("redis://a,geheim", "redis+sentinel://"),
        ("redis://:ge/heim@h", "percent-encoded"),
        ("redis://:p#geheim@h", "percent-encoded"),
        ("redis://:p?geheim@h", "unknown parameter: one"),
        ("redis://h?ssl_ca_certs=geheim", "write rediss://"),
        ("rediss://h#geheim", "behind a #"),
        ("rediss://h?ssl_cert_reqs=geheim", "neither required nor none"),
        ("rediss://h?ssl_check_hostname=geheim", "neither true nor false"),
        ("redis://h?timeout=3", "unknown parameter: timeout"),
        ("redis://h/geheim", "no number"),
        ("redis://h/1/geheim", "percent-encoded"),
        ("redis://h /geheim", "blank"),
        ("unix://geheim", "three slashes"),
        ("redis+sentinel://geheim", "names no service"),
        ("redis+cluster://h/3", "only number 0"),
    ],
)
def test_refusals_say_what_is_wrong_and_not_the_text(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_redis_url(url)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)


@given(st.sampled_from(["redis://", "rediss://", "unix://", "redis+sentinel://"]), st.text(max_size=40))
def test_rubbish_is_refused_as_a_value_and_nothing_else(scheme: str, rest: str) -> None:
    with contextlib.suppress(ValueError):
        parse_redis_url(scheme + rest)
