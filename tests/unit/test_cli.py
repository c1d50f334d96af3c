"""The command line: a bad value is one line that names it, before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from livecart.cli import run
from livecart.settings import VARIABLES

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No LIVECART_… variable is set, and the present folder is empty."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["up", "--port", "abc"], "--port='abc'"),
        (["up", "--port", "65536"], "--port='65536'"),
        (["up", "--workers", "0"], "--workers='0'"),
        (["up", "--data-dir", ""], "--data-dir"),
        (["up", "--host", "a\nb"], "--host"),
        (["up", "--wrkers", "2"], "--wrkers"),
        (["serve"], "LIVECART_REDIS_URL"),
        (["worker"], "LIVECART_REDIS_URL"),
        (["migrate"], "LIVECART_DATABASE_URL"),
        (["migrate", "--json"], "--check"),
        (["prune", "--older-than", "29"], "--older-than"),
        (["prune", "--older-than", "30"], "LIVECART_DATABASE_URL"),
        (["ledger", "of_1"], "LIVECART_DATABASE_URL"),
        (["ledger"], "'offer'"),
        (["reconcile"], "LIVECART_REDIS_URL"),
        (["token", "--role", "viewer"], "--sub"),
        (["token", "--role", "viewer", "--sub", "ann"], "LIVECART_SECRET"),
        (["spec", "soap"], "'soap'"),
        (["sell"], "sell"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Status 2, nothing on stdout, one line on stderr, and no file was made."""
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert named in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LIVECART_SECRET", "short"),
        ("LIVECART_PORT", "8000x"),
        ("LIVECART_REDIS_URL", "localhost:6379"),
        ("LIVECART_DATABASE_URL", "mysql://x"),
        ("LIVECART_DRAIN_S", "nan"),
        ("LIVECART_LOG_LEVEL", "loud"),
    ],
)
@pytest.mark.parametrize("command", ["up", "serve", "settings"])
def test_a_bad_variable_is_one_line_that_names_it(
    command: str,
    name: str,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Status 2 and one line on stderr for each command that reads it, and no file was made."""
    monkeypatch.setenv(name, text)
    assert run([command]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"livecart: {name}=")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_up_refuses_keys_that_it_cannot_sign_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a JWKS URL `up` could print no token; it says what to use."""
    monkeypatch.setenv("LIVECART_JWKS_URL", "https://example.org/jwks.json")
    assert run(["up"]) == 2
    assert "LIVECART_JWKS_URL" in capsys.readouterr().err


def test_settings_lists_every_variable_and_shows_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable is there with its meaning; secrets and passwords are not."""
    monkeypatch.setenv("LIVECART_SECRET", SECRET)
    monkeypatch.setenv("LIVECART_DATABASE_URL", "postgresql://ann:letmein42@db/livecart")
    assert run(["settings"]) == 0
    said = capsys.readouterr().out
    for variable in VARIABLES:
        assert f"{variable.name} = " in said
        assert variable.meaning in said
    assert SECRET not in said
    assert "letmein42" not in said
    assert "LIVECART_SECRET = set" in said


def test_token_makes_what_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option is a claim."""
    monkeypatch.setenv("LIVECART_SECRET", SECRET)
    options = ["--role", "host", "--sub", "小美", "--shop", "tea", "--name", "阿寶", "--ttl", "60"]
    assert run(["token", *options, "--stream", "st_1", "--stream", "st_2"]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") > 0
    assert claims == {
        "role": "host",
        "sub": "小美",
        "shop": "tea",
        "name": "阿寶",
        "streams": ["st_1", "st_2"],
    }


def test_ticket_makes_what_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for a viewer and some ids; without the key of tickets there is none."""
    asked = ["ticket", "--sub", "小美", "--for", "of_1", "--for", "st_1", "--ttl", "60"]
    assert run(asked) == 2
    assert "LIVECART_TICKET_SECRET" in capsys.readouterr().err
    monkeypatch.setenv("LIVECART_TICKET_SECRET", SECRET)
    assert run(asked) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") > 0
    assert claims == {"sub": "小美", "for": ["of_1", "st_1"]}


@pytest.mark.parametrize("path", ["nowhere", "nowhere:at_all", "json:at_all", "json:loads"])
def test_a_hook_that_is_none_is_named_before_anything_starts(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be loaded, or is no async function, is one line."""
    monkeypatch.setenv("LIVECART_SECRET", SECRET)
    monkeypatch.setenv("LIVECART_ELIGIBILITY", path)
    for command in ("up", "serve"):
        monkeypatch.setenv("LIVECART_REDIS_URL", "redis://127.0.0.1:1")
        monkeypatch.setenv("LIVECART_DATABASE_URL", "postgresql://127.0.0.1:1/x")
        assert run([command]) == 2
        assert f"LIVECART_ELIGIBILITY={path}" in capsys.readouterr().err


def test_a_token_of_no_use_is_not_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that no server knows is refused here, not there."""
    monkeypatch.setenv("LIVECART_SECRET", SECRET)
    assert run(["token", "--role", "king", "--sub", "ann"]) == 2
    assert "role" in capsys.readouterr().err


def test_a_link_needs_a_server_that_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the answer is a line that says where none was found."""
    monkeypatch.setenv("LIVECART_SECRET", SECRET)
    nowhere = "http://127.0.0.1:1"
    assert run(["token", "--role", "host", "--sub", "ann", "--page", nowhere]) == 2
    assert f"{nowhere} gave no link" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["openapi", "asyncapi"])
def test_spec_prints_the_descriptions(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are JSON that says of which kind it is."""
    assert run(["spec", which]) == 0
    assert which in json.loads(capsys.readouterr().out)


def test_doctor_names_a_bad_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others stop, it goes on to say what to do; its status is that of a failed check."""
    monkeypatch.setenv("LIVECART_PORT", "ten")
    assert run(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL LIVECART_PORT='ten'" in said
    assert "->" in said


def test_no_command_shows_the_help_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """`livecart` alone prints the commands, with status 2 and no empty complaint."""
    assert run([]) == 2
    said = capsys.readouterr()
    assert "doctor" in said.out
    assert said.err == ""


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`livecart --version` prints one line, with status 0."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("livecart ")


def test_bounds_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`livecart settings` writes 1000000, not 1e+06: what it says can be typed as it is."""
    assert run(["settings"]) == 0
    said = capsys.readouterr().out
    assert "e+0" not in said
    assert "from 16384 to 67108864" in said
