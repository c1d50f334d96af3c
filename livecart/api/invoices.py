"""Invoices over HTTP: issue one for a paid order, and show it."""

from __future__ import annotations

import msgspec

from livecart.api.aftersale import hosted_order
from livecart.api.bounds import own_order
from livecart.api.calls import Call
from livecart.api.operations import Operation
from orders.ledger import invoices
from orders.money import to_decimal
from streams.codes import Code
from streams.ports import Refused


class InvoiceLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was sold; prices have their tax in them."""

    product: str
    sku: str
    title: str
    qty: int
    unit_price_minor: int
    amount_minor: int
    tax_bp: int | None = None
    tax_minor: int | None = None


class CreditNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What of an invoice was given back."""

    number: str
    issued_at: int
    amount_minor: int
    amount: str
    tax_bp: int | None = None
    tax_minor: int | None = None
    reason: str | None = None


class Invoice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An order's invoice as it was issued, and its credit notes."""

    number: str
    shop: str
    order: str
    buyer: str
    stream: str
    ordered_at: int
    paid_at: int
    issued_at: int
    currency: str
    lines: list[InvoiceLine]
    amount_minor: int
    amount: str  # the same as a decimal
    credit_notes: list[CreditNote]
    net_minor: int | None = None  # without its tax, where one is stated
    tax_minor: int | None = None
    provider: str | None = None
    payment_ref: str | None = None


async def issue(call: Call) -> Invoice:
    """Issue a paid order's invoice, or a credit note over what was given back since; once each."""
    order = await hosted_order(call)
    word = await invoices.issue(call.services.ledger, order.id, call.caller.sub)
    if word == "conflict":
        raise Refused(Code.CONFLICT, "No money was taken for this order.")
    return await _shown(call, order.id)


async def show(call: Call) -> Invoice:
    """Show an order's invoice: to its buyer, or to the shop."""
    order, _ = await own_order(call)
    return await _shown(call, order.id)


async def _shown(call: Call, order: str) -> Invoice:
    found = await invoices.invoices_of(call.services.ledger, order)
    if not found:
        raise Refused(Code.NOT_FOUND, "No invoice was issued.")
    invoice, *notes = found
    body = invoice.body
    tax_bp = body.get("tax_bp")
    return Invoice(
        number=invoice.number,
        shop=invoice.shop,
        order=invoice.order,
        buyer=body["buyer"],
        stream=body["stream"],
        ordered_at=body["ordered_at"],
        paid_at=body["paid_at"],
        issued_at=invoice.issued_at,
        currency=invoice.currency,
        lines=[
            InvoiceLine(
                product=body["product"],
                sku=body["sku"],
                title=body["title"],
                qty=body["qty"],
                unit_price_minor=body["unit_price_minor"],
                amount_minor=invoice.amount_minor,
                tax_bp=tax_bp,
                tax_minor=invoice.tax_minor,
            )
        ],
        amount_minor=invoice.amount_minor,
        amount=to_decimal(invoice.amount_minor, invoice.currency),
        credit_notes=[_note(note) for note in notes],
        net_minor=None if invoice.tax_minor is None else invoice.amount_minor - invoice.tax_minor,
        tax_minor=invoice.tax_minor,
        provider=body.get("provider"),
        payment_ref=body.get("payment_ref"),
    )


def _note(note: invoices.Invoice) -> CreditNote:
    return CreditNote(
        number=note.number,
        issued_at=note.issued_at,
        amount_minor=note.amount_minor,
        amount=to_decimal(note.amount_minor, note.currency),
        tax_bp=note.body.get("tax_bp"),
        tax_minor=note.tax_minor,
        reason=note.body.get("reason"),
    )


OPERATIONS = (
    Operation(
        method="POST", path="/v1/orders/{id}/invoice", handle=issue, who="host",
        summary="Issue an order's invoice", result=Invoice,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="GET", path="/v1/orders/{id}/invoice", handle=show, who="member",
        summary="Show an order's invoice", result=Invoice, refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
