"""Does the server of this folder start and sell? Run in the copy that a bug was planted in.

    python -m tests.mutations.sells

Ends with 0 when `livecart up` serves and a buy over HTTP is answered 201: a bug that keeps a server
from selling at all would be seen by anybody, and proves nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile

import httpx

UP_S = 90


def main() -> None:
    """Start a server, buy a unit, stop it."""
    with tempfile.TemporaryDirectory(prefix="lc-mut-") as folder:
        command = [sys.executable, "-m", "livecart.cli", "up", "--json", "--port", "0"]
        with subprocess.Popen(
            [*command, "--data-dir", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as up:
            try:
                assert up.stdout is not None
                told = json.loads(up.stdout.readline())  # ends with the process, if that dies
                answer = _buy(told)
            finally:
                up.send_signal(signal.SIGTERM)
                up.wait(UP_S)
    sys.exit(0 if answer.status_code == 201 else f"a buy was answered {answer.status_code}")


def _buy(told: dict[str, str]) -> httpx.Response:
    with httpx.Client(base_url=told["http"], timeout=10) as http:
        offers = http.get(f"/v1/streams/{told['demo_stream']}/offers").json()["items"]
        offer = next(offer["id"] for offer in offers if offer["status"] == "open")
        headers = {"Authorization": f"Bearer {told['viewer_token']}", "Idempotency-Key": "k"}
        return http.post(f"/v1/offers/{offer}/orders", json={"qty": 1}, headers=headers)


if __name__ == "__main__":
    main()
