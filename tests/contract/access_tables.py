"""Who gets what of which object: the tables of the authorisation matrix, written down by hand.

Owns callers, kinds of objects and outcomes, and knows no route: several share a table. Pure;
called by `access`, which has the line of each route, and by `access_rig`, which calls the cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Rows: who calls. Those `elsewhere` have a token whose `streams` names another stream.
CALLERS = {
    "nobody": "no token, as a guest",
    "bad token": "expired, signed with another key, not valid yet, or of a role there is not",
    "viewer": "a viewer; the objects of `own` are his",
    "viewer elsewhere": "the same, with a token limited to another stream",
    "banned": "a viewer who is banned from both streams; the objects of `own` are his",
    "host": "a host of the shop",
    "host elsewhere": "the same, with a token limited to another stream",
    "other host": "a host of the other shop",
    "admin": "an admin",
    "service": "a service of the shop",
    "service elsewhere": "the same, with a token limited to another stream",
}


class Column(NamedTuple):
    """What a call is about: whose, and what stands where the rule has the usual object."""

    what: str
    shop: int = 1
    of_another: bool = False  # orders are another viewer's
    put: Mapping[str, str] = {}
    like: str = "missing"  # the column that a 404 here must not be told from


COLUMNS = {
    "any": Column("the route names no object"),
    "own": Column("the shop's, and of what viewers have, the caller's"),
    "another's": Column("the shop's, of another viewer", of_another=True),
    "theirs": Column("the other shop's, and of what viewers have, another's", 2, True),
    "draft": Column("the shop's, an offer that was never announced", put={"offer": "draft"}),
    "their draft": Column("the other shop's such offer", 2, put={"offer": "draft"}),
    "missing": Column("an id that nothing has", put={"id": "missing"}),
    "their product": Column("the shop's, with the other shop's product in the body",
                            put={"product": "other.product"}, like="no product"),
    "no product": Column("the shop's, with a product in the body that is not",
                         put={"product": "missing"}, like="no product"),
    "their offer": Column("the shop's, with the other shop's offer in the body",
                          put={"offer": "other.offer"}, like="no offer"),
    "draft in it": Column("the shop's, with a draft of it in the body",
                          put={"offer": "draft"}, like="no offer"),
    "no offer": Column("the shop's, with an offer in the body that is not",
                       put={"offer": "missing"}, like="no offer"),
    "their pin": Column("the shop's stream, with a pin of the other's",
                        put={"pin": "other.pin"}, like="no pin"),
    "no order": Column("with an order in the body that is not", put={"order": "missing"},
                       like="no order"),
    "another's in it": Column("the shop's, with another viewer's order in the body",
                              put={"more": "order of another"}, like="no more"),
    "no more": Column("the shop's, with an order in the body that is not",
                      put={"more": "missing"}, like="no more"),
    "bad link": Column("a checkout link signed with another key", put={"link": "bad link"}),
    "old link": Column("a checkout link that has expired", put={"link": "old link"}),
    "no link": Column("no checkout link", put={"link": "no link"}),
    "their delivery": Column("the shop's webhook, with a delivery of the other's",
                             put={"delivery": "other.delivery"}, like="no delivery"),
    "no delivery": Column("the shop's webhook, with a delivery that is not",
                          put={"delivery": "missing"}, like="no delivery"),
    "no provider": Column("a payment provider that is not connected",
                          put={"provider": "missing"}),
    "no pin": Column("the shop's stream, with a pin that is not", put={"pin": "missing"},
                     like="no pin"),
}  # fmt: skip


class Access:
    """A table of outcomes: `ok`, a status (with a code, where it is not the usual one), or what of
    a list is seen."""

    def __init__(self, title: str, table: str) -> None:
        self.title = title
        self.table = re.sub(r"(?m)^ {4}", "", table).strip("\n")
        head, *rows = [re.split(r" {2,}", line.strip()) for line in self.table.splitlines()]
        self.columns = head
        self.cells: dict[tuple[str, str], str] = {}
        for callers, *outcomes in rows:
            for caller in callers.split(", "):
                if caller not in CALLERS or len(outcomes) != len(head):
                    raise ValueError(f"{title}: {caller!r} has {outcomes} under {head}")
                for column, outcome in zip(head, outcomes, strict=True):
                    self.cells[caller, column] = outcome
        if lacking := {(c, o) for c in CALLERS for o in head} - self.cells.keys():
            raise ValueError(f"{title}: no outcome for {sorted(lacking)}")


PLAIN = Access("Everybody, and a token is not looked at", """
                                        any
    nobody, bad token                   ok
    viewer, viewer elsewhere, banned    ok
    host, host elsewhere, other host    ok
    admin, service, service elsewhere   ok
""")  # fmt: skip

OPEN = Access("Everybody", """
                                        any
    nobody                              ok
    bad token                           401
    viewer, viewer elsewhere, banned    ok
    host, host elsewhere, other host    ok
    admin, service, service elsewhere   ok
""")  # fmt: skip

OPEN_OBJECT = Access("Everybody, an object that is public", """
                                        own   theirs  missing
    nobody                              ok    ok      404
    bad token                           401   401     401
    viewer, viewer elsewhere, banned    ok    ok      404
    host, host elsewhere, other host    ok    ok      404
    admin, service, service elsewhere   ok    ok      404
""")  # fmt: skip

SHOP = Access("Hosts, for their own shop", """
                                        any
    nobody, bad token                   401
    viewer, viewer elsewhere, banned    403
    host, other host, admin, service    ok
    host elsewhere, service elsewhere   ok
""")  # fmt: skip

TRADED = Access("Whoever has a code, which is good once; a token is nothing beside it", """
                                        any
    nobody                              401
    bad token                           401
    viewer, viewer elsewhere, banned    401
    host, host elsewhere, other host    401
    admin, service, service elsewhere   401
""")  # fmt: skip

RENEWED = Access("Whose token was traded for a code: none of these", """
                                        any
    nobody, bad token                   401
    viewer, viewer elsewhere, banned    403
    host, host elsewhere, other host    403
    admin, service, service elsewhere   403
""")  # fmt: skip

OWN_CODES = Access("Services, for everybody; a host for himself alone", """
                                        any
    nobody, bad token                   401
    viewer, viewer elsewhere, banned    403
    host, host elsewhere                ok
    other host                          403
    admin, service, service elsewhere   ok
""")  # fmt: skip

SHOP_WHOLE = Access("Hosts, unless limited to streams", """
                                        any
    nobody, bad token                   401
    viewer, viewer elsewhere, banned    403
    host, other host, admin, service    ok
    host elsewhere, service elsewhere   403
""")  # fmt: skip

HOSTED = Access("The hosts of the stream", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer, viewer elsewhere, banned    403   403     403
    host                                ok    403     404
    other host                          403   ok      404
    admin, service                      ok    ok      404
    host elsewhere, service elsewhere   403   403     404
""")  # fmt: skip

HOSTED_PRODUCT = Access("The hosts of the stream, with a product of their shop", """
                                        own   theirs  missing  their product  no product
    nobody, bad token                   401   401     401      401            401
    viewer, viewer elsewhere, banned    403   403     403      403            403
    host                                ok    403     404      404            404
    other host                          403   ok      404      403            403
    admin, service                      ok    ok      404      404            404
    host elsewhere, service elsewhere   403   403     404      403            403
""")  # fmt: skip

HOSTED_PIN_OFFER = Access("The hosts of the stream, with an offer of that stream", """
                                        own   theirs  missing  their offer  no offer
    nobody, bad token                   401   401     401      401          401
    viewer, viewer elsewhere, banned    403   403     403      403          403
    host                                ok    403     404      404          404
    other host                          403   ok      404      403          403
    admin, service                      ok    ok      404      404          404
    host elsewhere, service elsewhere   403   403     404      403          403
""")  # fmt: skip

HOSTED_PIN = Access("The hosts of the stream, a pin of that stream", """
                                        own   theirs  missing  their pin  no pin
    nobody, bad token                   401   401     401      401        401
    viewer, viewer elsewhere, banned    403   403     403      403        403
    host                                ok    403     404      404        404
    other host                          403   ok      404      403        403
    admin, service                      ok    ok      404      404        404
    host elsewhere, service elsewhere   403   403     404      403        403
""")  # fmt: skip

READS_OFFER = Access("Everybody, once it was announced; a draft its hosts", """
                                        own   theirs  draft  their draft  missing
    nobody                              ok    ok      404    404          404
    bad token                           401   401     401    401          401
    viewer, viewer elsewhere, banned    ok    ok      404    404          404
    host                                ok    ok      ok     404          404
    other host                          ok    ok      404    ok           404
    admin, service                      ok    ok      ok     ok           404
    host elsewhere, service elsewhere   ok    ok      404    404          404
""")  # fmt: skip

HOSTED_OFFER = Access("The hosts of the offer's stream", """
                                        own   theirs  draft  their draft  missing
    nobody, bad token                   401   401     401    401          401
    viewer, viewer elsewhere, banned    403   403     403    403          403
    host                                ok    403     ok     404          404
    other host                          403   ok      404    ok           404
    admin, service                      ok    ok      ok     ok           404
    host elsewhere, service elsewhere   403   403     404    404          404
""")  # fmt: skip

REVISED_OFFER = Access("The hosts of the offer's stream, with a product of their shop", """
                                        draft  their draft  missing  their product  no product
    nobody, bad token                   401    401          401      401            401
    viewer, viewer elsewhere, banned    403    403          403      403            403
    host                                ok     404          404      404            404
    other host                          404    ok           404      404            404
    admin, service                      ok     ok           404      404            404
    host elsewhere, service elsewhere   404    404          404      404            404
""")  # fmt: skip

LISTS_OFFERS = Access("Everybody, what was announced; drafts their hosts", """
                                        own        theirs     missing
    nobody                              announced  announced  404
    bad token                           401        401        401
    viewer, viewer elsewhere, banned    announced  announced  404
    host                                all        announced  404
    other host                          announced  all        404
    admin, service                      all        all        404
    host elsewhere, service elsewhere   announced  announced  404
""")  # fmt: skip

BUYS = Access("Viewers, of any shop", """
                                        own   theirs  draft  their draft  missing
    nobody, bad token                   401   401     401    401          401
    viewer                              ok    ok      404    404          404
    viewer elsewhere, banned            403   403     404    404          404
    host, host elsewhere, other host    403   403     403    403          403
    admin, service, service elsewhere   403   403     403    403          403
""")  # fmt: skip

BUYS_TOGETHER = Access("Viewers, offers of that stream", """
                                        own   theirs  missing  their offer  draft in it  no offer
    nobody, bad token                   401   401     401      401          401          401
    viewer                              ok    ok      404      404          404          404
    viewer elsewhere, banned            403   403     404      403          403          403
    host, host elsewhere, other host    403   403     403      403          403          403
    admin, service, service elsewhere   403   403     403      403          403          403
""")  # fmt: skip

ENTRIES = Access("Viewers see what is their own of it, hosts all", """
                                        own   theirs  draft  their draft  missing
    nobody, bad token                   401   401     401    401          401
    viewer                              own   own     404    404          404
    viewer elsewhere, banned            403   403     404    404          404
    host                                all   403     none   404          404
    other host                          403   all     404    none         404
    admin, service                      all   all     none   none         404
    host elsewhere, service elsewhere   403   403     404    404          404
""")  # fmt: skip

ORDERS = Access("Viewers list their own, hosts those of their shop", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer, banned                      own   own     none
    viewer elsewhere                    none  none    none
    host                                all   none    none
    other host                          none  all     none
    admin, service                      all   all     none
    host elsewhere, service elsewhere   none  none    none
""")  # fmt: skip

EXPORTED = Access("Hosts, what is of their shop", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer, viewer elsewhere, banned    403   403     403
    host                                all   none    none
    other host                          none  all     none
    admin, service                      all   all     none
    host elsewhere, service elsewhere   none  none    none
""")  # fmt: skip

ORDER = Access("The viewer whose order it is, and the hosts of its stream", """
                                        own   another's  theirs  missing
    nobody, bad token                   401   401        401     401
    viewer, banned                      ok    404        404     404
    viewer elsewhere                    404   404        404     404
    host                                ok    ok         404     404
    other host                          404   404        ok      404
    admin, service                      ok    ok         ok      404
    host elsewhere, service elsewhere   404   404        404     404
""")  # fmt: skip

HOSTED_ORDER = Access("The hosts of its stream; to whom it is not theirs it is not there", """
                                        own   another's  theirs  missing
    nobody, bad token                   401   401        401     401
    viewer, viewer elsewhere, banned    403   403        403     403
    host                                ok    ok         404     404
    other host                          404   404        ok      404
    admin, service                      ok    ok         ok      404
    host elsewhere, service elsewhere   404   404        404     404
""")  # fmt: skip

HOSTED_ORDERS = Access("The hosts of its stream, with orders of the same viewer", """
                                        own   another's in it  theirs  missing  no more
    nobody, bad token                   401   401              401     401      401
    viewer, viewer elsewhere, banned    403   403              403     403      403
    host                                ok    404              404     404      404
    other host                          404   404              ok      404      404
    admin, service                      ok    404              ok      404      404
    host elsewhere, service elsewhere   404   404              404     404      404
""")  # fmt: skip

OWN_ORDER = Access("The viewer whose order it is", """
                                        own   another's  theirs  missing
    nobody, bad token                   401   401        401     401
    viewer, banned                      ok    404        404     404
    viewer elsewhere                    404   404        404     404
    host, other host, host elsewhere    403   403        403     403
    admin, service, service elsewhere   403   403        403     403
""")  # fmt: skip

OWN_ORDERS = Access("The viewer whose orders they are", """
                                        own   another's  theirs  no order
    nobody, bad token                   401   401        401     401
    viewer, banned                      ok    404        404     404
    viewer elsewhere                    404   404        404     404
    host, other host, host elsewhere    403   403        403     403
    admin, service, service elsewhere   403   403        403     403
""")  # fmt: skip

WEBHOOK = Access("The hosts of its shop, unless limited to streams", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer, viewer elsewhere, banned    403   403     403
    host                                ok    404     404
    other host                          404   ok      404
    admin, service                      ok    ok      404
    host elsewhere, service elsewhere   403   403     403
""")  # fmt: skip

DELIVERY = Access("The hosts of its webhook's shop, a delivery of that webhook", """
                                        own   theirs  missing  their delivery  no delivery
    nobody, bad token                   401   401     401      401             401
    viewer, viewer elsewhere, banned    403   403     403      403             403
    host                                ok    404     404      404             404
    other host                          404   ok      404      404             404
    admin, service                      ok    ok      404      404             404
    host elsewhere, service elsewhere   403   403     403      403             403
""")  # fmt: skip

HOSTED_HIDDEN = Access("The hosts of the order's stream", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer, viewer elsewhere, banned    403   403     403
    host                                ok    404     404
    other host                          404   ok      404
    admin, service                      ok    ok      404
    host elsewhere, service elsewhere   404   404     404
""")  # fmt: skip

HOSTED_COMMENT = Access("The hosts of the comment's stream, with an offer of that stream", """
                                        own   theirs  missing  their offer  no offer
    nobody, bad token                   401   401     401      401          401
    viewer, viewer elsewhere, banned    403   403     403      403          403
    host                                ok    404     404      404          404
    other host                          404   ok      404      404          404
    admin, service                      ok    ok      404      404          404
    host elsewhere, service elsewhere   404   404     404      404          404
""")  # fmt: skip

LINKED = Access("Whoever has the link, with an account or without", """
                                        own   bad link  old link  no link
    nobody                              ok    401       401       401
    bad token                           401   401       401       401
    viewer, viewer elsewhere, banned    ok    401       401       401
    host, host elsewhere, other host    ok    401       401       401
    admin, service, service elsewhere   ok    401       401       401
""")  # fmt: skip

SIGNED = Access("Payment providers, by their signature; a token is nothing to them", """
                                        any   no provider
    nobody                              401   404
    bad token                           401   401
    viewer, viewer elsewhere, banned    401   404
    host, host elsewhere, other host    401   404
    admin, service, service elsewhere   401   404
""")  # fmt: skip

PUBLISHED = Access("Media servers, by a publisher's stream key; a token is nothing to them", """
                                        any
    nobody, bad token                   401
    viewer, viewer elsewhere, banned    401
    host, host elsewhere, other host    401
    admin, service, service elsewhere   401
""")  # fmt: skip

FOLLOWS = Access("Everybody whom the stream is not shut to", """
                                        own   theirs  missing
    nobody                              ok    ok      404
    bad token                           401   401     401
    viewer                              ok    ok      404
    banned                              403   403     404
    host, other host, admin, service    ok    ok      404
    viewer elsewhere                    403   403     403
    host elsewhere, service elsewhere   403   403     403
""")  # fmt: skip

SPEAKS = Access("Viewers, and the hosts of the stream; a service has no voice", """
                                        own   theirs  missing
    nobody, bad token                   401   401     401
    viewer                              ok    ok      404
    viewer elsewhere, banned            403   403     404
    host                                ok    403     404
    other host                          403   ok      404
    admin                               ok    ok      404
    host elsewhere                      403   403     404
    service, service elsewhere          403   403     404
""")  # fmt: skip
