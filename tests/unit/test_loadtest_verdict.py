"""What a play makes of what its crowd tells: refusals that were not due, and what must be known."""

from __future__ import annotations

import pytest

from loadtest.crew import Crew
from loadtest.play import Manner, Play
from loadtest.pulse import Pulse
from loadtest.scenarios import SCENARIOS
from loadtest.server import Target


def drawn_up(**counts: int) -> Play:
    """A play whose crowd has told of these counts."""
    target = Target("http://127.0.0.1:9", "s" * 32)
    play = Play(SCENARIOS["chat"], target, Manner(seed=1))
    for name, times in counts.items():
        play.count(name.replace("_", " ", 1), times)
    play._last = Pulse(outcomes={"order.reserved": 3, "sold_out": 2})
    play._draw_up()
    return play


@pytest.mark.parametrize("told", ["chat_internal", "ping_forbidden"])
def test_refused_words_fail_a_run(told: str) -> None:
    """A chat that is refused for no reason of its own is a failure, as a refused buy is."""
    play = drawn_up(**{told: 4, "chat_ok": 9, "chat_rate_limited": 1})
    assert play.result.unexpected == {told.replace("_", " ", 1): 4}
    assert play.result.verdict == "failed"


def test_viewers_who_were_turned_away_fail_a_run() -> None:
    """A crowd that is not there proves nothing."""
    play = drawn_up()
    play.count("turned_away close_4401", 7)
    play._draw_up()
    assert play.result.unexpected == {"turned_away close_4401": 7}


def test_a_run_without_a_database_says_that_it_was_not_audited() -> None:
    """PASSED must not be read as audited."""
    assert any("nothing was audited" in note for note in drawn_up().result.notes)


async def test_a_silent_last_beat_leaves_what_was_told_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the crowd had sold is not forgotten when it has no answer to the last beat."""
    play = drawn_up()

    async def sample() -> dict[str, float]:
        return {}

    monkeypatch.setattr(play._sampler, "sample", sample)
    play.crew = Crew([])
    await play._beat()
    play._draw_up()
    assert play.result.outcomes == {"order.reserved": 3, "sold_out": 2}
