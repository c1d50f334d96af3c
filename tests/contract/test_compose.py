"""docker-compose.yml: valid, without default secrets, and every command of ours runs as written.

No container engine is needed: each of our services' command, environment and health check is taken
from the file and run as a local process, with only names and ports of the containers replaced.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from tests.integration.up_rig import environment

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SECRETS = {"LIVECART_SECRET": "0123456789abcdef" * 3, "POSTGRES_PASSWORD": "letmein42"}
OURS = ("app", "keeper", "migrate")
HEALTHY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


def compose() -> dict[str, Any]:
    """Return the file with its anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return found


def services() -> dict[str, Any]:
    """Return the services."""
    found: dict[str, Any] = compose()["services"]
    return found


def test_the_file_is_valid_by_the_compose_specification() -> None:
    """A strict parser of the specification takes every key and value of it."""
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose()))


def test_an_unknown_key_would_be_found() -> None:
    """That parser refuses what the specification does not know."""
    broken = compose()
    broken["services"]["app"]["healthchek"] = {}
    with pytest.raises(ValueError, match="healthchek"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(broken))


def test_everything_that_is_named_is_there() -> None:
    """Dependencies, volumes and configs refer to services, volumes and configs of the file."""
    file = compose()
    for name, service in file["services"].items():
        assert set(service.get("depends_on", {})) <= set(file["services"]), name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in file["volumes"], name
        for config in service.get("configs", []):
            assert config["source"] in file["configs"], name


@pytest.mark.parametrize("name", sorted(set(services()) - {"migrate"}))
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    """A service that others wait for, or that should be watched, says how."""
    assert services()[name]["healthcheck"]["test"][0] == "CMD"


def test_no_secret_has_a_default() -> None:
    """Each secret comes from the environment of the caller, or compose refuses to start."""
    text = FILE.read_text("utf-8")
    for name in SECRETS:
        uses = re.findall(r"\$\{" + name + r"([^}]*)\}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses), name


def test_redis_and_postgres_are_run_as_the_rules_ask() -> None:
    """Redis evicts nothing and keeps a log; nothing of Postgres' durability is switched off."""
    redis = " ".join(services()["redis"]["command"])
    assert "--maxmemory-policy noeviction" in redis
    assert "--appendonly yes" in redis
    postgres = " ".join(services()["postgres"]["command"])
    assert not re.search(r"fsync|synchronous_commit|full_page_writes", postgres)


# --- our services as local processes ------------------------------------------------------------


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Local:
    """Runs our services here: the text of the file with the containers' names replaced."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        ports = {"8000": str(free_port()), "9100": str(free_port())}
        self._swaps = [
            ("redis://redis:6379/0", redis_url),
            (
                f"postgresql://livecart:{SECRETS['POSTGRES_PASSWORD']}@postgres:5432/livecart",
                database_url,
            ),
            ("0.0.0.0", "127.0.0.1"),
            *ports.items(),
        ]

    def text(self, value: str) -> str:
        """Return a value as compose would give it to the container, and then as it is here."""
        for name, secret in SECRETS.items():
            value = re.sub(r"\$\{" + name + r":\?[^}]*\}", secret, value)
        value = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)  # not set where compose is called
        for theirs, here in self._swaps:
            if theirs in value:
                value = value.replace(theirs, here)
                break
        return value

    def command(self, words: list[str]) -> list[str]:
        """Return the command with the image's programs replaced by this environment's."""
        programs = {"livecart": [sys.executable, "-m", "livecart.cli"], "python": [sys.executable]}
        return [*programs[words[0]], *(self.text(word) for word in words[1:])]

    def environ(self, service: dict[str, Any]) -> dict[str, str]:
        """Return the service's environment."""
        given = {name: self.text(value) for name, value in service["environment"].items()}
        return environment() | given

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service; it is ended at the end if it still runs."""
        service = services()[name]
        process = subprocess.Popen(
            self.command(service["command"]), env=self.environ(service), cwd=ROOT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def healthy(self, name: str) -> bool:
        """Run the service's health check once."""
        service = services()[name]
        check = self.command(service["healthcheck"]["test"][1:])
        ended = subprocess.run(
            check, env=self.environ(service), capture_output=True, timeout=10, check=False
        )
        return ended.returncode == 0


@pytest.fixture
def local(redis_url: str, database_url: str) -> Local:
    """Our services on databases of the test's own."""
    return Local(redis_url, database_url)


def wait_until(met: Callable[[], bool], timeout_s: float) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["app", "keeper"])
def test_a_service_becomes_healthy_and_ends_in_order(local: Local, name: str) -> None:
    """Its command serves, its own health check says so, and SIGTERM ends it with status 0."""
    with local.running(name) as process:
        wait_until(lambda: local.healthy(name) or process.poll() is not None, HEALTHY_TIMEOUT_S)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0


def test_the_migration_ends_by_itself(local: Local) -> None:
    """The one-shot service ends with status 0, also when there is nothing to do."""
    with local.running("migrate") as process:
        assert process.wait(STOP_TIMEOUT_S) == 0
