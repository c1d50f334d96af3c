"""The program in `docs/sdk.md` runs as it stands, with the package as it is published."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from livecart import bundle
from tests.conformance.drivers import node
from tests.contract.http_rig import serving, token

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```js\n(import \{ LiveCart \} from \"livecart\";\n.*?)^```$", re.M | re.S)


def program(document: Path) -> str:
    """Return the one whole program of a document."""
    (found,) = _BLOCK.findall(document.read_text("utf-8"))
    text: str = found
    return text


def test_the_package_shows_the_same_program() -> None:
    """What the package's README shows is what is tried here."""
    assert program(bundle.SDK / "README.md") == program(ROOT / "docs" / "sdk.md")


async def test_the_program_of_the_documentation_buys(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """Installed from the package it prints what the document says, and ends."""
    bundle.package(tmp_path / "node_modules" / "livecart")
    (tmp_path / "buy.mjs").write_text(program(ROOT / "docs" / "sdk.md"), "utf-8")
    async with serving(redis_url, database_url) as shop:
        stream = await shop.stream()
        await shop.offer(stream)
        environ = os.environ | {
            "SHOP": f"http://127.0.0.1:{shop.port}",
            "STREAM": stream,
            "TOKEN": token("viewer", "ann"),
        }
        process = await asyncio.create_subprocess_exec(
            *node(), "buy.mjs", cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    expected = ["1 × reserving", "1 × reserved", "number 1 is yours"]
    assert sorted(printed.decode().splitlines()) == sorted(expected)
    assert printed.decode().splitlines()[0] == expected[0]
