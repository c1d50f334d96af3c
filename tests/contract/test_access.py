"""Every route, every role, own and foreign objects: who is let through, and who is told what."""

from __future__ import annotations

from collections.abc import Callable

from livecart.api.table import OPERATIONS, PLAIN
from tests.contract.access import PAGE, RULES, page, route
from tests.contract.access_rig import SETTINGS, faults, play
from tests.contract.http_rig import serving


def test_every_route_has_a_rule() -> None:
    """A route without a rule of its own, and a rule without its route, is a mistake."""
    served = {f"{o.method} {o.path}" for o in OPERATIONS} | {f"GET {path}" for path in PLAIN}
    ruled = {route(name) for name in RULES}
    lacking = [
        f'tests/contract/access.py: add to RULES who may call it, as\n    "{name}": Rule(HOSTED),'
        for name in sorted(served - ruled)
    ]
    assert not lacking, "\n".join(lacking)
    assert not ruled - served, f"tests/contract/access.py: no such route: {sorted(ruled - served)}"


async def test_the_matrix(
    redis_url: str, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    """Each caller gets exactly what the tables say of each object, and a refusal changes nothing.

    What a caller may not know of is answered byte for byte as what does not exist.
    """
    async with serving(redis_url, database_url, **SETTINGS) as shop:
        played = await play(shop, database_url)
    record_property("covered", f"authorisation matrix: {len(played)} cells of {len(RULES)} rules")
    wrong = faults(played)
    assert not wrong, f"{len(wrong)} of {len(played)} cells:\n" + "\n".join(wrong)


def test_the_page_is_of_these_rules() -> None:
    """docs/security.md says what is tested: `python -m tests.contract.access` writes it anew."""
    text = PAGE.read_text()
    assert text == page(text)
