"""Who meets whom: the scenarios whose steps are put in every order.

Each begins a few actors in a world, and may say what went before. Called by test_interleavings.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from tests.property.choices import FAULTS
from tests.property.stepping import Process
from tests.property.world import World


class Scenario(NamedTuple):
    """Actors between whom all orders are tried; `faults` and `waits`: how many in one schedule.

    `drawn`: how many orders are drawn on an ordinary day, of those with faults if there are any,
    else in place of all, which are too many for every day.
    """

    name: str
    begin: Callable[[World], Awaitable[None]]
    units: int = 1
    per_viewer: int = 1
    offers: int = 1
    buckets: int = 1
    faults: int = 0
    kinds: tuple[str, ...] = FAULTS
    waits: int = 0
    masked: bool = False  # the ledger may refuse what the gate let pass
    drawn: int = 0
    wide: bool = False  # there are too many orders without a fault as well


SCENARIOS: list[Scenario] = []


def scenario(
    to: list[Scenario] = SCENARIOS,
    **more: Any,
) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    def add(begin: Callable[[World], Awaitable[None]]) -> None:
        to.append(Scenario(begin.__name__, begin, **more))

    return add


def buyer(world: World, process: str, viewer: str, qty: int = 1) -> None:
    world.start(process, lambda p: world.buy(p, viewer, qty))


# --- buys and the keeper ------------------------------------------------------------------------


@scenario(faults=1, drawn=80)
async def buy_and_keeper(world: World) -> None:
    """A buy against the keeper, who fences what has no row yet."""
    buyer(world, "a", "ann")
    world.start("keeper", world.look_after)


@scenario(drawn=120)
async def two_buyers_and_keeper(world: World) -> None:
    """The same with a second buyer for the one unit, on a hub of his own."""
    buyer(world, "a", "ann")
    buyer(world, "b", "bob")
    world.start("keeper", world.look_after)


@scenario(units=2, faults=1, drawn=80)
async def one_key_on_two_hubs(world: World) -> None:
    """A buyer who came back on another hub and sent the same buy again."""
    buyer(world, "a", "ann")
    buyer(world, "b", "ann")


@scenario(units=2, drawn=100)
async def one_key_on_two_hubs_and_keeper(world: World) -> None:
    """The same, while the keeper looks after the hold."""
    buyer(world, "a", "ann")
    buyer(world, "b", "ann")
    world.start("keeper", world.look_after)


@scenario(units=2, drawn=80)
async def one_viewer_on_two_hubs(world: World) -> None:
    """A viewer who may have one buys twice at once."""
    buyer(world, "a", "ann")
    world.start("b", lambda p: world.buy(p, "ann", 1, "other"))
    world.start("keeper", world.look_after)


@scenario(faults=1, kinds=("slow", "late"), drawn=80)
async def late_answers_and_keeper(world: World) -> None:
    """A hub gives up on a call that has or will have its effect; its buyer is elsewhere by then."""
    await world.abandoned("ann", admitted=False)
    buyer(world, "b", "ann")
    world.start("keeper", world.look_after)


@scenario()
async def two_keepers(world: World) -> None:
    """Two keepers at once, over a hold without a row and one that nobody marked."""
    await world.abandoned("ann", admitted=False)
    await world.abandoned("bob", admitted=True)
    world.start("k1", world.look_after)
    world.start("k2", world.look_after)


# --- the gate is built anew -----------------------------------------------------------------------


@scenario(faults=1, drawn=60)
async def buy_and_rebuild(world: World) -> None:
    """A buy against a rebuild of the gate under it."""
    buyer(world, "a", "ann")
    world.start("keeper", world.rebuild)


@scenario(drawn=60)
async def two_buyers_and_rebuild(world: World) -> None:
    """The same with a second buyer."""
    buyer(world, "a", "ann")
    buyer(world, "b", "bob")
    world.start("keeper", world.rebuild)


@scenario()
async def two_rebuilds(world: World) -> None:
    """Two rebuilds at once, over an order and a hold."""
    await world.bought("ann")
    world.start("k1", world.rebuild)
    world.start("k2", world.rebuild)


@scenario()
async def wipe_and_buy_and_keeper(world: World) -> None:
    """Redis forgets everything at any moment of a buy."""
    buyer(world, "a", "ann")
    world.start("fate", world.wipe)
    world.start("keeper", world.look_after)


@scenario()
async def restart_and_buy_and_keeper(world: World) -> None:
    """Redis comes back as another run of the server at any moment of a buy."""
    buyer(world, "a", "ann")
    world.start("fate", world.restart)
    world.start("keeper", world.look_after)


@scenario()
async def stale_copy_and_buy(world: World) -> None:
    """Redis comes back as it was before the last unit was sold, at any moment of a buy."""
    await world.copy()
    await world.bought("bob")
    buyer(world, "a", "ann")
    world.start("fate", world.restore)
    world.start("keeper", world.look_after)


@scenario()
async def buy_after_a_dead_rebuild(world: World) -> None:
    """The one who built anew died after he had raised the epoch."""
    await world.fetch("select raise_epoch($1, 1)", world.offer)
    buyer(world, "a", "ann")
    world.start("keeper", world.look_after)


@scenario(units=2, drawn=100)
async def keeper_and_rebuild(world: World) -> None:
    """A fence under one epoch, a rebuild to the next, and the owner of the hold comes back."""
    await world.abandoned("ann", admitted=False)
    await world.abandoned("bob", admitted=True)
    buyer(world, "a", "ann")
    world.start("k1", world.look_after)
    world.start("k2", world.rebuild)


# --- units come back -----------------------------------------------------------------------------


@scenario(faults=1, drawn=40)
async def pay_and_cancel(world: World) -> None:
    """One of two changes of one order wins."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("b", lambda p: world.change(p.changes.pay(order)))


@scenario(drawn=80)
async def pay_and_cancel_and_expire(world: World) -> None:
    """And of three."""
    order = await world.bought("ann", due=True)
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("b", lambda p: world.change(p.changes.pay(order)))
    world.start("keeper", world.expire)


@scenario(waits=1)
async def expire_and_buy(world: World) -> None:
    """The unit of an order that expires, and somebody who wants it at that moment."""
    await world.bought("ann", due=True)
    buyer(world, "a", "bob")
    world.start("keeper", world.expire)


@scenario()
async def cancel_and_rebuild(world: World) -> None:
    """An order ends while the gate is built anew from a snapshot that may have it."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("keeper", world.rebuild)


@scenario(units=1, masked=True)
async def lower_and_buy(world: World) -> None:
    """The host takes the last unit away from under a buyer."""
    buyer(world, "a", "ann")
    world.start("host", lambda p: lower(world, p, 0))


@scenario(units=2, masked=True, drawn=60)
async def lower_and_two_buyers(world: World) -> None:
    """The host takes one of two units away from under two buyers."""
    buyer(world, "a", "ann")
    buyer(world, "b", "bob")
    world.start("host", lambda p: lower(world, p, 1))


@scenario(units=1, masked=True, drawn=60)
async def lower_and_one_key_on_two_hubs(world: World) -> None:
    """The same, where the refused hold is another hub's as well."""
    buyer(world, "a", "ann")
    buyer(world, "b", "ann")
    world.start("host", lambda p: lower(world, p, 0))


@scenario(units=1)
async def restock_twice(world: World) -> None:
    """A host's restock that was sent twice, to two hubs."""
    await world.bought("ann")
    world.start("a", lambda p: world.restock(p, "r", 1))
    world.start("b", lambda p: world.restock(p, "r", 1))


@scenario()
async def restock_and_keeper(world: World) -> None:
    """The keeper brings the gate a movement at the moment when its host does (R7)."""
    await world.bought("ann")
    world.start("host", lambda p: world.restock(p, "r", 1))
    world.start("keeper", world.look_after)


@scenario(masked=True)
async def close_and_buy(world: World) -> None:
    """The offer closes during a buy."""
    buyer(world, "a", "ann")
    world.start("host", lambda p: world.change(p.changes.close_offer(world.offer)))


@scenario()
async def cancel_twice(world: World) -> None:
    """Viewer and host end one order, and somebody wants its unit."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("host", lambda p: world.change(p.changes.cancel(order, True, None)))


@scenario()
async def expire_and_rebuild(world: World) -> None:
    """An order expires while the gate is built anew."""
    await world.bought("ann", due=True)
    world.start("k1", world.expire)
    world.start("k2", world.rebuild)


@scenario(units=2, drawn=40)
async def close_and_keeper(world: World) -> None:
    """The offer closes while the keeper looks after what a dead hub left."""
    await world.abandoned("ann", admitted=False)
    await world.bought("bob")
    world.start("host", lambda p: world.change(p.changes.close_offer(world.offer)))
    world.start("keeper", world.look_after)


# --- what came with the whole life cycle ---------------------------------------------------------


@scenario()
async def pause_and_buy(world: World) -> None:
    """The host pauses the offer during a buy: it is bought before, or not open yet."""
    buyer(world, "a", "ann")
    world.start("host", lambda p: world.change(p.changes.pause_offer(world.offer)))


@scenario(drawn=60)
async def pause_and_resume_and_buy(world: World) -> None:
    """Two hosts who disagree, and a buyer between them."""
    buyer(world, "a", "ann")
    world.start("h1", lambda p: world.change(p.changes.pause_offer(world.offer)))
    world.start("h2", lambda p: world.change(p.changes.resume_offer(world.offer)))


@scenario(drawn=60)
async def restock_and_two_buyers(world: World) -> None:
    """A unit comes to an offer of one that two want: nobody is sent away who could have had it."""
    buyer(world, "a", "ann")
    buyer(world, "b", "bob")
    world.start("host", lambda p: world.restock(p, "r", 1))


@scenario(drawn=60)
async def extend_and_pay_and_expire(world: World) -> None:
    """A viewer who asks for more time at the moment when his time is over, and pays elsewhere."""
    order = await world.bought("ann", due=True)
    world.start("a", lambda p: world.change(p.changes.extend(order, 1)))
    world.start("b", lambda p: world.change(p.changes.pay(order)))
    world.start("keeper", world.expire)


@scenario(offers=2)
async def two_bundles_cross(world: World) -> None:
    """Two viewers want the last units of the same two offers together, in either order."""
    world.start("a", lambda p: world.bundle(p, "ann"))
    world.start("b", lambda p: world.bundle(p, "bob", backwards=True))


@scenario(offers=2, drawn=60)
async def bundle_and_buy_and_keeper(world: World) -> None:
    """A bundle of two last units, one of which somebody else wants, and the keeper."""
    world.start("a", lambda p: world.bundle(p, "ann"))
    world.start("b", lambda p: world.buy(p, "bob", offer=1))
    world.start("keeper", world.look_after)


@scenario(offers=2, drawn=60)
async def bundle_on_two_hubs(world: World) -> None:
    """A bundle that was sent to two hubs."""
    world.start("a", lambda p: world.bundle(p, "ann"))
    world.start("b", lambda p: world.bundle(p, "ann"))


@scenario(offers=2, drawn=60)
async def bundle_and_keeper(world: World) -> None:
    """A bundle against the keeper, who fences one line of it, or both."""
    world.start("a", lambda p: world.bundle(p, "ann"))
    world.start("keeper", world.look_after)


@scenario(drawn=60)
async def reconcile_and_buy(world: World) -> None:
    """Reconcile looks at everything while somebody buys: a busy sale is never rebuilt for it."""
    buyer(world, "a", "ann")
    world.start("keeper", world.reconcile)


@scenario(drawn=40)
async def reconcile_and_cancel_and_buy(world: World) -> None:
    """The same while a unit comes back and is sold again."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    buyer(world, "b", "bob")
    world.start("keeper", world.reconcile)


@scenario(drawn=60)
async def wait_and_cancel(world: World) -> None:
    """Somebody joins the waitlist at the moment when the unit comes back (R12)."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("b", lambda p: world.wait(p, "bob"))


@scenario(drawn=60)
async def two_wait_and_one_buys(world: World) -> None:
    """An order expires while two wait or begin to, and a third just buys."""
    await world.bought("ann", due=True)
    await world.wait(world.process("judge"), "bob")
    world.start("a", lambda p: world.wait(p, "cat"))
    buyer(world, "b", "dan")
    world.start("keeper", world.expire)


@scenario(drawn=60)
async def served_and_rebuild(world: World) -> None:
    """Who waits gets a unit while the gate is built anew: it has both orders, or is brought one."""
    order = await world.bought("ann")
    await world.wait(world.process("judge"), "bob")
    world.start("a", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("keeper", world.rebuild)


async def lower(world: World, process: Process, quantity: int) -> None:
    """Do what a host does who has fewer units than he said."""
    await world.change(process.changes.revise_offer(world.offer, {"quantity": quantity}))


# --- buckets ------------------------------------------------------------------------------------


def at_home(world: World, bucket: int, nth: int = 0) -> str:
    """Return a viewer whose home is this bucket of the offer, from 1."""
    offer = world.spread
    names = (f"v{n}" for n in range(1_000) if offer.home(f"v{n}") == offer.homes[bucket - 1])
    return next(itertools.islice(names, nth, None))


@scenario(units=2, buckets=2, drawn=40)
async def borrower_and_buyer(world: World) -> None:
    """One borrows the unit of the other bucket while its own viewer buys it."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    buyer(world, "b", at_home(world, 2))


@scenario(units=2, buckets=2, faults=1, wide=True, drawn=75)
async def borrower_alone(world: World) -> None:
    """A transfer any step of which gets lost, or whose process dies: the keeper ends it."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))


@scenario(units=2, buckets=2, drawn=50)
async def borrower_and_keeper(world: World) -> None:
    """A unit is on its way between two buckets while the keeper fences what has no row."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    world.start("keeper", world.look_after)


@scenario(units=2, buckets=2, drawn=50)
async def borrower_and_rebuild(world: World) -> None:
    """The lender's gate is built anew under a transfer."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    world.start("keeper", lambda p: world.rebuild(p, world.spread.homes[1]))


@scenario(units=2, buckets=2, drawn=50)
async def two_borrowers_and_keeper(world: World) -> None:
    """Two hubs borrow the same last unit."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    buyer(world, "b", at_home(world, 1, 2))
    world.start("keeper", world.look_after)


@scenario(units=2, buckets=2, drawn=50)
async def borrower_and_lowering_and_closing(world: World) -> None:
    """The host takes away the unit that is on its way, and closes."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    world.start(
        "host", lambda p: world.change(p.changes.revise_offer(world.offer, {"quantity": 1}))
    )
    world.start("end", lambda p: world.change(p.changes.close_offer(world.offer)))


@scenario(units=2, buckets=2, drawn=40)
async def wipe_and_borrower(world: World) -> None:
    """Redis forgets everything at any moment of a transfer."""
    await world.bought(at_home(world, 1))
    buyer(world, "a", at_home(world, 1, 1))
    world.start("fate", world.wipe)
    world.start("keeper", world.look_after)
