"""Orders in the columns of Shopify's order export, one row a line item.

Owns the columns, what goes into which, and the cells: quoted as RFC 4180 has it, and with nothing
in them that a spreadsheet would take for a formula. Pure. Called by the export's route.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from orders.ledger.walk import Line, Walked
from orders.money import split_tax, to_decimal

_ADDRESS = [
    "Name", "Street", "Address1", "Address2", "Company", "City", "Zip", "Province", "Country",
    "Phone",
]  # fmt: skip
_TAXES = [f"Tax {n} {what}" for n in range(1, 6) for what in ("Name", "Value")]
COLUMNS: tuple[str, ...] = (
    "Name", "Email", "Financial Status", "Paid at", "Fulfillment Status", "Fulfilled at",
    "Accepts Marketing", "Currency", "Subtotal", "Shipping", "Taxes", "Total", "Discount Code",
    "Discount Amount", "Shipping Method", "Created at", "Lineitem quantity", "Lineitem name",
    "Lineitem price", "Lineitem compare at price", "Lineitem sku", "Lineitem requires shipping",
    "Lineitem taxable", "Lineitem fulfillment status",
    *(f"Billing {name}" for name in _ADDRESS), *(f"Shipping {name}" for name in _ADDRESS),
    "Notes", "Note Attributes", "Cancelled at", "Payment Method", "Payment Reference",
    "Refunded Amount", "Vendor", "Outstanding Balance", "Employee", "Location", "Device ID", "Id",
    "Tags", "Risk Level", "Source", "Lineitem discount", *_TAXES, "Phone", "Receipt Number",
    "Duties", "Billing Province Name", "Shipping Province Name", "Payment ID",
    "Payment Terms Name", "Next Payment Due At", "Payment References",
)  # fmt: skip
HEADER = (",".join(COLUMNS) + "\r\n").encode()
LIVE = ("reserved", "confirmed", "shipped")

_AT = {name: place for place, name in enumerate(COLUMNS)}
_EMPTY = [""] * len(COLUMNS)
# What begins so is a formula to one spreadsheet or another; the wide forms are to those of Asia.
_FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
_QUOTED = re.compile('[",\r\n]')
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIMES_MAX = 50_000  # written times that are kept: orders of one second share theirs
_FORMS_MAX = 2_000

#: The columns that are an order's own, in the order of `Sheet._own`.
_OWN = tuple(
    _AT[name]
    for name in (
        "Name", "Paid at", "Fulfilled at", "Shipping Method", "Created at", "Notes",
        "Note Attributes", "Cancelled at", "Payment Method", "Payment Reference", "Id",
        "Receipt Number", "Payment ID", "Next Payment Due At", "Payment References",
    )
)  # fmt: skip

#: Opens the sealed address of an order, None where it cannot: by the names of the columns in lower
#: case (without `Shipping`), `email` and `note`.
Opener = Callable[[bytes], "Mapping[str, str] | None"]


def cell(text: str) -> str:
    """Return a text as a cell: no formula, and quoted where it has to be."""
    if _FORMULA.match(text):
        text = "'" + text
    if _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


class Sheet:
    """Writes the rows of one export.

    Most cells of an order are those of any other of its offer in the same state: such rows are made
    once, as a form that takes what is the order's own.
    """

    def __init__(self, offers: Mapping[str, Walked], opener: Opener | None = None) -> None:
        self._opener = opener
        self._offers = offers
        self._times: dict[int | None, str] = {}
        self._forms: dict[tuple[object, ...], str] = {}

    def rows(self, purchases: Iterable[Sequence[Line]]) -> bytes:
        """Return the rows of some purchases, each an order or the orders of a bundle."""
        written: list[str] = []
        for lines in purchases:
            if len(lines) > 1 or (self._opener is not None and lines[0].sealed is not None):
                written += self._purchase(lines)
            else:
                written.append(self._single(lines[0]))
        written.append("")
        return "\r\n".join(written).encode()

    def _single(self, line: Line) -> str:
        """Return the one row of an order that was bought alone."""
        key = (
            line.offer, line.status, line.qty, line.unit_price_minor, line.refunded_minor,
            line.captured_s is None, line.shipped_s is None,
        )  # fmt: skip
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _FORMS_MAX:
                self._forms.clear()
            row = self._filled([line])
            for place in _OWN:
                row[place] = "\0"
            form = self._forms[key] = ",".join(row).replace("%", "%%").replace("\0", "%s")
        return form % tuple(self._own([line]))

    def _purchase(self, lines: Sequence[Line]) -> list[str]:
        """Return the rows of an order, the order's own columns in the first alone."""
        first = self._filled(lines)
        for place, text in zip(_OWN, self._own(lines), strict=True):
            first[place] = text
        line = lines[0]
        if self._opener is not None and line.sealed is not None:
            _address(first, self._opener(line.sealed) or {})
        more = [self._item(line) for line in lines[1:]]
        for row in more:
            row[_AT["Name"]] = first[_AT["Name"]]
        return [",".join(row) for row in (first, *more)]

    def _item(self, line: Line) -> list[str]:
        """Return a row with the columns of its line item filled in."""
        offer = self._offers[line.offer]
        row = _EMPTY.copy()
        row[_AT["Lineitem quantity"]] = str(line.qty)
        row[_AT["Lineitem name"]] = cell(offer.title)
        row[_AT["Lineitem price"]] = to_decimal(line.unit_price_minor, offer.currency)
        row[_AT["Lineitem sku"]] = cell(offer.sku)
        row[_AT["Lineitem requires shipping"]] = "true"
        row[_AT["Lineitem taxable"]] = "false" if offer.tax_bp is None else "true"
        row[_AT["Lineitem fulfillment status"]] = _fulfilment(line)
        row[_AT["Lineitem discount"]] = to_decimal(0, offer.currency)
        row[_AT["Vendor"]] = cell(offer.shop)
        return row

    def _filled(self, lines: Sequence[Line]) -> list[str]:
        """Return the first row of an order, but for what is its own."""
        row = self._item(lines[0])
        offer = self._offers[lines[0].offer]

        def put(column: str, amount_minor: int) -> None:
            row[_AT[column]] = to_decimal(amount_minor, offer.currency)

        total = sum(line.qty * line.unit_price_minor for line in lines)
        taxes = self._taxes(lines)
        row[_AT["Financial Status"]] = _financial(lines, self._offers)
        row[_AT["Fulfillment Status"]] = _together([_fulfilment(line) for line in lines])
        row[_AT["Accepts Marketing"]] = "no"
        row[_AT["Currency"]] = offer.currency
        put("Subtotal", total)
        put("Shipping", 0)
        put("Taxes", sum(taxes.values()))
        put("Total", total)
        put("Discount Amount", 0)
        put("Refunded Amount", sum(map(_given_back, lines)))
        put("Outstanding Balance", sum(map(_due, lines)))
        row[_AT["Tags"]] = cell(offer.stream)
        row[_AT["Source"]] = "livecart"
        for n, (rate_bp, tax) in enumerate(list(taxes.items())[:5], start=1):
            row[_AT[f"Tax {n} Name"]] = f"Tax {rate_bp // 100}.{rate_bp % 100:02}%"
            put(f"Tax {n} Value", tax)
        return row

    def _taxes(self, lines: Sequence[Line]) -> dict[int, int]:
        """Return the tax that is in the total, by rate."""
        amounts: dict[int, int] = {}
        for line in lines:
            rate_bp = self._offers[line.offer].tax_bp
            if rate_bp is not None:
                amounts[rate_bp] = amounts.get(rate_bp, 0) + line.qty * line.unit_price_minor
        return {rate_bp: split_tax(of, rate_bp).tax_minor for rate_bp, of in amounts.items()}

    def _own(self, lines: Sequence[Line]) -> list[str]:
        """Return the cells of _OWN: what is this order's alone."""
        line, time = lines[0], self._time
        if len(lines) == 1:
            paid, shipped, ended, ids = line.captured_s, line.shipped_s, line.ended_s, line.id
        else:
            paid = _last(line.captured_s for line in lines)
            shipped = _last(line.shipped_s for line in lines)
            ended = _last(line.ended_s for line in lines)
            ids = " ".join(line.id for line in lines)
        ref = cell(line.ref) if line.ref else ""
        return [
            line.bundle or line.id,
            time(paid),
            time(shipped),
            cell(line.carrier) if line.carrier else "",
            time(line.reserved_s),
            cell(f"tracking: {line.tracking}") if line.tracking else "",
            cell(f"viewer: {line.viewer}"),
            time(ended),
            line.provider or "",
            ref,
            ids,
            line.invoice or "",
            line.payment or "",
            time(line.expires_s) if line.status == "reserved" else "",
            ref,
        ]

    def _time(self, at_s: int | None) -> str:
        text = self._times.get(at_s)
        if text is None:
            if len(self._times) >= _TIMES_MAX:
                self._times.clear()
            text = "" if at_s is None else time.strftime(_TIME, time.gmtime(at_s))
            self._times[at_s] = text
        return text


def _last(times_s: Iterable[int | None]) -> int | None:
    """Return when the last of several came, None while one has not."""
    last = 0
    for at_s in times_s:
        if at_s is None:
            return None
        last = max(last, at_s)
    return last


def _address(row: list[str], address: Mapping[str, str]) -> None:
    for name in _ADDRESS:
        row[_AT[f"Shipping {name}"]] = cell(address.get(name.lower(), ""))
    street = [address[name] for name in ("address1", "address2") if name in address]
    row[_AT["Shipping Street"]] = cell(", ".join(street))
    row[_AT["Email"]] = cell(address.get("email", ""))
    row[_AT["Phone"]] = cell(address.get("phone", ""))
    row[_AT["Notes"]] = cell(address.get("note", "")) or row[_AT["Notes"]]
    row[_AT["Shipping Province Name"]] = cell(address.get("province", ""))


def _given_back(line: Line) -> int:
    """Return what of an order's money is given back or due to be: all, once it has ended."""
    if line.captured_s is None:
        return 0
    if line.status in LIVE:
        return int(line.refunded_minor)
    return int(line.qty * line.unit_price_minor)


def _due(line: Line) -> int:
    """Return what an order is still to be paid with."""
    if line.captured_s is not None or line.status not in LIVE:
        return 0
    return int(line.qty * line.unit_price_minor - line.refunded_minor)


def _financial(lines: Sequence[Line], offers: Mapping[str, Walked]) -> str:
    """Return the word for the money of a purchase, as Shopify has them."""
    if len(lines) == 1:
        return _money_word(lines[0], offers)
    words = {_money_word(line, offers) for line in lines}
    if len(words) == 1:
        return words.pop()
    if words & {"refunded", "partially_refunded"}:
        return "partially_refunded"
    words.discard("voided")  # what was cancelled unpaid is not part of it any more
    if len(words) == 1:
        return words.pop()
    return "partially_paid" if "paid" in words else "pending"


def _money_word(line: Line, offers: Mapping[str, Walked]) -> str:
    if line.captured_s is not None:
        back = _given_back(line)
        if not back:
            return "paid"
        whole = back >= line.qty * line.unit_price_minor
        return "refunded" if whole else "partially_refunded"
    if line.status == "reserved":
        return "pending"
    if line.status in LIVE:
        return "authorized" if offers[line.offer].payment == "required" else "pending"
    return "voided"


def _fulfilment(line: Line) -> str:
    return "fulfilled" if line.shipped_s is not None else "unfulfilled"


def _together(words: Sequence[str]) -> str:
    return words[0] if len(set(words)) == 1 else "partial"
