"""Products over HTTP: create, list, show."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from livecart.api.calls import Call, Page, answer_json, listing, once
from livecart.api.operations import ROLES, Operation
from livecart.api.problems import Answer
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import (
    LINE,
    Currency,
    Description,
    Gtin,
    Id,
    PriceMinor,
    Product,
    Sku,
    TaxBp,
    Title,
    Url,
)

Search = Annotated[str, Meta(max_length=100, pattern=LINE)]


class NewProduct(msgspec.Struct, kw_only=True):
    """Something that a shop sells."""

    sku: Sku
    title: Title
    price_minor: PriceMinor
    currency: Currency
    description: Description | None = None
    image_url: Url | None = None
    gtin: Gtin | None = None
    tax_bp: TaxBp | None = None


class ProductsQuery(Page, kw_only=True):
    """Which products to list."""

    shop: Id | None = None
    q: Search | None = None  # words, each of them somewhere in the title or the SKU


async def create(call: Call, body: NewProduct) -> Answer:
    """Add a product to the caller's shop.

    With an `Idempotency-Key` it is added once: 200 when an earlier call of this shop added it.
    """
    product = Product(
        id=call.services.ids.new("pr"),
        shop=call.caller.shop,
        sku=body.sku,
        title=body.title,
        price_minor=body.price_minor,
        currency=body.currency,
        description=body.description,
        image_url=body.image_url,
        gtin=body.gtin,
        tax_bp=body.tax_bp,
    )
    id_ = await call.services.catalog.create_product(product, once(call, body))
    if id_ != product.id:
        return answer_json(await _shown(call, id_))
    return answer_json(product, 201)


async def listed(call: Call) -> dict[str, Any]:
    """List products, newest first.

    `q` searches those of one shop, the caller's own where he hosts one and names none: every word
    of it is somewhere in the title or the SKU, whatever its case and width.
    """
    query: ProductsQuery = call.query
    limit, catalog = query.size, call.services.catalog
    if query.q is None:
        found = await catalog.products_page(query.shop, query.before, limit + 1)
    else:
        shop = query.shop or _own_shop(call.identity)
        found = await catalog.products_found(shop, query.q, query.before, limit + 1)
    return listing(found, found, limit)


def _own_shop(identity: Identity | None) -> str:
    if identity is None or identity.role not in ROLES["host"]:
        raise Refused(Code.BAD_REQUEST, "Expected the shop to search in", field="shop")
    return identity.shop


async def show(call: Call) -> Product:
    """Show a product."""
    return await _shown(call, call.id())


async def _shown(call: Call, id_: str) -> Product:
    product = await call.services.catalog.product(id_)
    if product is None:
        raise Refused(Code.NOT_FOUND)
    return product


OPERATIONS = (
    Operation(
        method="POST", path="/v1/products", handle=create, who="host", status=201,
        summary="Add a product", body=NewProduct, result=Product, may_key=True, replays=True,
        refusals=(Code.KEY_REUSED,),
    ),
    Operation(
        method="GET", path="/v1/products", handle=listed, who="anyone",
        summary="List products", query=ProductsQuery, result=Product, listed=True,
    ),
    Operation(
        method="GET", path="/v1/products/{id}", handle=show, who="anyone",
        summary="Show a product", result=Product, refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
