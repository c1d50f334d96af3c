"""Who meets whom where there is money: what must be so of it is in `tills`.

There are more orders of these steps than are ever played whole: they are drawn.
"""

from __future__ import annotations

from tests.property.scenarios import Scenario, buyer, scenario
from tests.property.world import World

MONEY: list[Scenario] = []


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def pays_and_cancels(world: World) -> None:
    """A buyer begins to pay and cancels elsewhere, while the cashier sees to what is due."""
    order = await world.bought("ann")
    world.start("a", lambda p: world.tills.pay(p, "ann", [order]))
    world.start("b", lambda p: world.change(p.changes.cancel(order, False, None)))
    world.start("c", world.tills.work)


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def notice_and_cancel(world: World) -> None:
    """The word that an order is paid, again and again, against the host's cancelling it."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    world.start("a", world.tills.hear)
    world.start("b", lambda p: world.change(p.changes.cancel(order, True, None)))
    world.start("c", world.tills.hear)


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def notice_and_expire_and_buy(world: World) -> None:
    """The word comes when the time is over, and somebody else wants the unit at that moment."""
    order = await world.bought("ann", due=True)
    await world.tills.paid("ann", order)
    world.start("a", world.tills.hear)
    world.start("keeper", world.expire)
    buyer(world, "b", "bob")


@scenario(MONEY, units=2, per_viewer=2, faults=1, drawn=25, wide=True)
async def late_notice_on_two_hubs(world: World) -> None:
    """The word comes after the end, to two processes; one order is bought anew, not two."""
    order = await world.bought("ann", due=True)
    await world.tills.paid("ann", order)
    await world.expire(world.process("judge"))
    world.start("a", world.tills.hear)
    world.start("b", world.tills.hear)


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def by_hand_and_notice(world: World) -> None:
    """The host notes money in his hand while the provider's word comes: paid twice, kept once."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    world.start("a", lambda p: world.change(p.changes.pay(order)))
    world.start("b", world.tills.hear)


@scenario(MONEY, faults=2, drawn=25, wide=True)
async def refund_and_cashiers(world: World) -> None:
    """A paid order is given back while two cashiers are at its money."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    judge = world.process("judge")
    await world.tills.hear(judge)
    await world.tills.work(judge)
    world.start("a", lambda p: world.refund(p, order, "whole"))
    world.start("b", world.tills.work)
    world.start("c", world.tills.work)


@scenario(MONEY, units=2, per_viewer=2, faults=1, drawn=25, wide=True)
async def two_refunds_and_cancel(world: World) -> None:
    """Two parts and the rest of an order's money are given back, and it is cancelled besides."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    judge = world.process("judge")
    await world.tills.hear(judge)
    await world.tills.work(judge)
    world.start("a", lambda p: world.refund(p, order, "one", 1_000))
    world.start("b", lambda p: world.refund(p, order, "two", 900))
    world.start("c", lambda p: world.change(p.changes.cancel(order, True, None)))
    world.start("d", world.tills.work)


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def capture_is_refused(world: World) -> None:
    """The money that was set aside cannot be had: the order ends, and its unit is for others."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    world.tills.bank.refuses.add("capture")
    world.start("a", world.tills.hear)
    world.start("c", world.tills.work)
    buyer(world, "b", "bob")


@scenario(MONEY, offers=2, faults=1, drawn=25, wide=True)
async def one_payment_for_two(world: World) -> None:
    """One payment of two orders, of which one is cancelled and the other expires meanwhile."""
    one = await world.bought("ann")
    two = await world.bought_of(1, "ann", due=True)
    await world.tills.paid("ann", one, two)
    world.start("a", world.tills.hear)
    world.start("b", lambda p: world.change(p.changes.cancel(one, True, None)))
    world.start("keeper", world.expire)


@scenario(MONEY, faults=1, drawn=25, wide=True)
async def another_amount(world: World) -> None:
    """The bank says another amount than was asked for: nothing is sold for it."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order, less_by_minor=1)
    world.start("a", world.tills.hear)
    world.start("b", world.expire)


@scenario(MONEY, units=2, faults=1, drawn=25, wide=True)
async def refund_and_no_units_and_buy(world: World) -> None:
    """A whole refund that brings no unit back, on two processes, against who wants what is left."""
    order = await world.bought("ann")
    await world.tills.paid("ann", order)
    await world.tills.hear(world.process("judge"))
    world.start("a", lambda p: world.refund(p, order, "whole", restock=False))
    world.start("b", lambda p: world.refund(p, order, "whole", restock=False))
    buyer(world, "c", "bob")
    buyer(world, "d", "carol")
