"""The drawers of the viewer's page: what is read out is heard over an open one too."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.browser_rig import People
from tests.browser.pages import ViewerPage
from tests.browser.scenes import CUP, TEA
from tests.browser.server_rig import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_read_out_is_inside_an_open_drawer(server: Server, people: People) -> None:
    """All outside of an open drawer is inert, so the live regions move in, and out again.

    They need no room there: a drawer that has room for what is in it has no scroll bar.
    """
    stream = await server.stream("茶")
    await server.offer(stream, await server.product(TEA))
    token = server.token("viewer", "ann")
    page = await ViewerPage.visit(await people.person("ann"), server, stream, token=token)
    await page.connected()
    await page.open_products()
    drawer = page.page.locator("#products-drawer")
    await expect(drawer.locator("[aria-live=assertive]")).to_have_count(1)
    assert await drawer.evaluate("(drawer) => drawer.scrollHeight - drawer.clientHeight") == 0
    await server.offer(stream, await server.product(CUP))
    await expect(drawer.locator("#said")).to_contain_text(CUP)
    await page.close_drawer()
    await expect(page.page.locator("body > #said")).to_have_count(1)
    await expect(drawer.locator("[aria-live=assertive]")).to_have_count(0)
