"""What a client keeps between connections: when a token is renewed."""

from __future__ import annotations

import pytest

from livecart.auth import issue
from streams.resume import RENEW_AHEAD_S, RENEW_MIN_S, renew_in_s

SECRET = "a secret that only tests have: 0123456789"
NOW_S = 1_800_000_000.0


@pytest.mark.parametrize("ttl_s", [3, 60, 120, 600, 86_400])
def test_a_token_is_renewed_in_its_second_half_and_before_its_end(ttl_s: int) -> None:
    """At most a minute ahead, not all at once, and never after it ended."""
    token = issue(SECRET, role="viewer", sub="ann", ttl_s=ttl_s, now_s=NOW_S)
    drawn = {renew_in_s(token, NOW_S * 1000) for _ in range(50)}
    assert len(drawn) > 1
    for in_s in drawn:
        assert in_s is not None
        assert max(ttl_s / 2, ttl_s - RENEW_AHEAD_S) <= in_s < ttl_s


def test_a_token_that_ended_is_not_renewed_without_a_pause() -> None:
    """Whatever the clocks say, there is a pause between two."""
    token = issue(SECRET, role="viewer", sub="ann", ttl_s=60, now_s=NOW_S)
    assert renew_in_s(token, (NOW_S + 90) * 1000) == RENEW_MIN_S


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.e30.c", "a.eyJleHAiOiJzb29uIn0.c"])
def test_what_says_no_end_is_not_renewed(token: str) -> None:
    """Only the server can read it, so only its close tells."""
    assert renew_in_s(token, NOW_S * 1000) is None
