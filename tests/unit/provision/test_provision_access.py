import pytest

from bareboat.plumbing import clock as clocks
from bareboat.provision import access, refusals


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
def test_whoever_does_not_show_the_token_is_refused(header: str | None) -> None:
    with pytest.raises(refusals.Refused) as refused:
        access.check_token("secret", header)
    assert refused.value.status == 401


@pytest.mark.parametrize(("token", "header"), [("secret", "Bearer secret"), ("secret", "bearer secret"), ("", None)])
def test_whoever_shows_it_comes_in(token: str, header: str | None) -> None:
    access.check_token(token, header)


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [
        ("0.0.0.0", "", True),
        ("10.0.0.5", "", True),
        ("0.0.0.0", "x", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
    ],
)
def test_an_open_port_without_a_token_is_warned_of(host: str, token: str, warned: bool) -> None:
    assert (access.exposure(host, token) is not None) is warned


async def test_a_client_that_asks_too_often_waits_and_others_do_not() -> None:
    clock = clocks.ManualClock()
    rates = access.Rates(clock, 60)
    for _ in range(60):
        rates.take("10.0.0.1")
    with pytest.raises(refusals.Refused) as refused:
        rates.take("10.0.0.1")
    assert (refused.value.status, refused.value.after_s) == (429, 1.0)
    rates.take("10.0.0.2")
    await clock.advance(1.0)
    rates.take("10.0.0.1")
    with pytest.raises(refusals.Refused):
        rates.take("10.0.0.1")


def test_without_a_limit_nobody_waits() -> None:
    rates = access.Rates(clocks.ManualClock(), None)
    for _ in range(5000):
        rates.take("10.0.0.1")
