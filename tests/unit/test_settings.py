"""The settings: one table, one reader, no secret printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import livecart
from livecart.settings import VARIABLES, Settings, SettingsError, demand, load, values

SECRET = "s" * 32
GOOD = {
    "LIVECART_SECRET": SECRET,
    "LIVECART_REDIS_URL": "redis://:pass@localhost/0",
    "LIVECART_DATABASE_URL": "postgresql://me:pass@localhost/db",
}


def test_defaults_hold_where_nothing_is_set() -> None:
    """An empty environment, and one of empty values, give the defaults of the table."""
    assert load({}) == load({variable.name: "" for variable in VARIABLES})
    assert load({}).serve.port == 8000
    assert load({}).auth.secret is None


def test_what_is_set_arrives() -> None:
    """Each kind of value gets to the struct of who needs it."""
    settings = load(
        GOOD
        | {
            "LIVECART_PORT": "0",
            "LIVECART_DRAIN_S": "0.5",
            "LIVECART_CONNECTIONS_MAX": "7",
            "LIVECART_LOG_EVENTS_MAX": "50000",
            "LIVECART_LOG_LEVEL": "debug",
            "LIVECART_HTTP_BODY_BYTES_MAX": "2048",
        }
    )
    assert (settings.serve.port, settings.serve.drain_s, settings.serve.log_level) == (
        0, 0.5, "debug",
    )  # fmt: skip
    assert settings.hub.connections_max == 7
    assert settings.log.main_entries_max == 50_000
    assert settings.log.tail_entries_max >= 2 * 50_000
    assert settings.http.body_bytes_max == 2048
    demand(settings, "redis", "database", "tokens")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIVECART_PORT", "65536"),
        ("LIVECART_PORT", "-1"),
        ("LIVECART_PORT", "8000.0"),
        ("LIVECART_PORT", "eight"),
        ("LIVECART_PORT", "9" * 5000),
        ("LIVECART_WORKERS", "0"),
        ("LIVECART_DRAIN_S", "nan"),
        ("LIVECART_DRAIN_S", "inf"),
        ("LIVECART_DRAIN_S", "1s"),
        ("LIVECART_LOG_LEVEL", "loud"),
        ("LIVECART_REDIS_URL", "http://localhost"),
        ("LIVECART_GATE_URL", "localhost:7000"),
        ("LIVECART_DATABASE_URL", "localhost"),
        ("LIVECART_HOST", "a\nb"),
        ("LIVECART_SECRET", "short"),
    ],
)
def test_a_bad_value_is_named_in_one_line(name: str, value: str) -> None:
    """The line has the variable and what is allowed, and never a secret or a password."""
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    line = str(caught.value)
    assert line.startswith(f"{name}=")
    assert "\n" not in line
    assert len(line) < 300
    if name.endswith(("_SECRET", "_URL")):
        assert value not in line


def test_the_gate_is_where_redis_is_unless_it_is_told() -> None:
    """`LIVECART_GATE_URL` is the gate's alone; without it the gate is on LIVECART_REDIS_URL."""
    assert load(GOOD).gate_at == GOOD["LIVECART_REDIS_URL"]
    settings = load(GOOD | {"LIVECART_GATE_URL": "redis://gates:7000"})
    assert (settings.gate_at, settings.redis_url) == (
        "redis://gates:7000", GOOD["LIVECART_REDIS_URL"],
    )  # fmt: skip


def test_what_has_no_default_is_demanded() -> None:
    """Who needs it says so in one line; a JWKS URL stands for the secret."""
    for name, without in (
        ("redis", "LIVECART_REDIS_URL"),
        ("database", "LIVECART_DATABASE_URL"),
        ("tokens", "LIVECART_SECRET"),
    ):
        rest = {key: value for key, value in GOOD.items() if key != without}
        with pytest.raises(SettingsError, match=without):
            demand(load(rest), name)  # type: ignore[arg-type]
    demand(load({"LIVECART_JWKS_URL": "https://x/keys"}), "tokens")


def test_no_secret_is_shown() -> None:
    """Neither the table nor a repr shows the secret or a password."""
    settings, found = load(GOOD), values(GOOD)
    shown = [variable.shown(found[variable.name]) for variable in VARIABLES]
    text = " ".join([repr(settings), repr(settings.auth), *shown])
    assert SECRET not in text
    assert "pass" not in text
    assert "set" in shown
    assert isinstance(settings, Settings)


def test_every_row_says_what_it_means() -> None:
    """Each variable has a name of ours, a meaning, and a default that its own rule allows."""
    assert len({variable.name for variable in VARIABLES}) == len(VARIABLES)
    for variable in VARIABLES:
        assert re.fullmatch(r"LIVECART_[A-Z_]+", variable.name)
        assert variable.meaning
        if variable.default is not None:
            assert variable.read(str(variable.default)) == variable.default


def test_no_other_file_knows_a_variable_that_the_table_lacks() -> None:
    """Every LIVECART_… word in the package is a row of the table."""
    known = {variable.name for variable in VARIABLES}
    for path in Path(livecart.__file__).parent.rglob("*.py"):
        named = set(re.findall(r"\bLIVECART_[A-Z]+(?:_[A-Z]+)*\b", path.read_text("utf-8")))
        assert named <= known, path
