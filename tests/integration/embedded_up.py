"""A stand-alone `up`: both servers under supervision, for tests that kill or stop it whole.

    embedded_up.py DATA_DIR [no-namespace]

Prints one line of JSON once ready, then one line for each report, then `stopped`. Imports only
`livecart.embedded`, which needs nothing beyond the standard library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from livecart.embedded import EmbeddedError, EmbeddedServers, Supervisor


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(data_dir: Path, *, namespace: bool) -> None:
    """Run until a signal."""
    servers = EmbeddedServers.open(data_dir, namespace=namespace)
    assert servers.redis is not None
    assert servers.postgres is not None
    with Supervisor(_say) as supervisor:
        servers.supervise(supervisor)
        if supervisor.start():
            urls = {"redis_url": servers.redis.url, "database_url": servers.postgres.url}
            _say(json.dumps(urls | {"pids": supervisor.pids()}))
            supervisor.run()
    servers.close()
    _say("stopped")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), namespace="no-namespace" not in sys.argv[2:])
    except EmbeddedError as error:
        sys.exit(f"livecart: {error}")
