"""Scenarios by name, and the command that plays them: wrong usage is one line, before anything."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.cli import app
from loadtest.scenarios import SCENARIOS
from loadtest.scenarios.scenario import ParameterUnknown

WIDE = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}


def refused(*arguments: str) -> str:
    """What `run` says to wrong usage, at nobody's address: nothing is dialled."""
    told = CliRunner().invoke(
        app, ["run", *arguments, "--target", "http://127.0.0.1:9", "--secret", "s"], env=WIDE
    )
    assert told.exit_code == 2
    assert "Traceback" not in told.output
    return told.output


@pytest.mark.parametrize(
    ("arguments", "said", "there_is"),
    [
        (["flush"], "no scenario 'flush'", "flash, viya, fanout, storm, chat, mixed, soak"),
        (["flash", "--set", "unit=3"], "flash has no 'unit'", "viewers, units, per_viewer"),
        (["fanout", "--units", "3"], "fanout has no 'units'", "viewers, pins, every_s"),
        (["flash", "--set", "units=many"], "units: 'many' is no int", ""),
        (["flash", "--set", "units=2.5"], "units: '2.5' is no int", ""),
        (["flash", "--set", "units=-1"], "units: '-1' is below 0", ""),
        (["flash", "--set", "viewers=0"], "viewers: '0' is not above 0", ""),
        (["soak", "--set", "every_s=0"], "every_s: '0' is not above 0", ""),
        (["soak", "--set", "seconds=nan"], "seconds: 'nan' is no finite number", ""),
        (["chat", "--set", "chats_per_s=inf"], "chats_per_s: 'inf' is no finite number", ""),
        (["storm", "--set", "share=1.5"], "share: '1.5' is above 1", ""),
        (["mixed", "--set", "leavers=2"], "leavers: '2' is above 1", ""),
        (["flash", "--set", "units"], "--set takes name=value, not 'units'", ""),
        (["flash", "--units", "3", "--set", "units=4"], "units is given twice", ""),
        (["flash", "--network", "5g"], "no network '5g'", "none, wifi, 4g, 3g, train, pocket"),
        (["flash", "--out", "/nowhere/at/all.json"], "there is no folder /nowhere/at", ""),
        (["flash", "--report", "/nowhere/run.html"], "there is no folder /nowhere", ""),
        (["flash", "--history", "/nowhere/run.history"], "there is no folder /nowhere", ""),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_there_is(
    arguments: list[str], said: str, there_is: str
) -> None:
    """Before anything is dialled, with status 2, in the words of whoever typed it."""
    (line,) = [line for line in refused(*arguments).splitlines() if said in line]
    assert there_is in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[limits]\n"timing.order.p99" = "<= 1"\n', "timing.order.p99: there is no such value"),
        ('[limits]\n"missing" = "= 0"\n', 'missing: "= 0" begins with no operator'),
        ('[limits]\n"missing" = "== none"\n', 'missing: "none" is no number'),
        ("[limits\n", "Expected"),
    ],
)
def test_a_bad_threshold_is_one_line_before_the_run(tmp_path: Path, text: str, said: str) -> None:
    """A file of thresholds that cannot be meant is named with its line."""
    (tmp_path / "bad.toml").write_text(text)
    told = refused("flash", "--thresholds", str(tmp_path / "bad.toml"))
    assert len([line for line in told.splitlines() if said in line]) == 1


def test_scenarios_are_listed_with_what_can_be_set() -> None:
    """Every name with every parameter and its default."""
    told = CliRunner().invoke(app, ["scenarios"], env={**WIDE, "COLUMNS": "400"})
    assert told.exit_code == 0
    lines = {line.split()[0]: line for line in told.output.splitlines()[1:]}
    assert list(lines) == list(SCENARIOS)
    for name, story in SCENARIOS.items():
        for option, value in story.options().items():
            assert f"{option}={value}" in lines[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_parameter_can_be_set_and_nothing_else_changes(name: str) -> None:
    """From text, as `--set` gives it, each parameter takes a value of its own kind."""
    story = SCENARIOS[name]
    assert {field.name for field in fields(story)} == set(story.options())
    for option, value in story.options().items():
        other = type(value)(value / 2 + 1) if isinstance(value, int) else value / 2
        changed = story.with_options({option: str(other)})
        assert changed.options() == {**story.options(), option: other}
    assert story.with_options({}) == story
    with pytest.raises(ParameterUnknown, match=f"{name} has no 'colour'; it has viewers"):
        story.with_options({"colour": "red"})
