"""A host who never rests, and viewers who chat: what a stream's two sequences are made of.

Owns what is commanded, and what each command was answered: acknowledged, refused, or of an outcome
that nobody knows. Judges nothing but refusals that no host should get. Used by `deliveries`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from random import Random

from loadtest.server import until
from loadtest.web import Api
from tests.faults.reader import Event
from tests.faults.reader_rest import Deeds
from tests.faults.watching import Watcher

SHOP = "deliveries"
OUTCOME_S = 60.0  # a command that may be sent again is, for so long
PINS_MAX = 3
TEXT_CHARS_MAX = 250  # beside the number
LAST_WORDS = 5
PASSING = frozenset({"retry", "internal", "rate_limited"})  # done or not, who knows


async def new_stream(api: Api) -> str:
    """Make a live stream; return its id."""
    stream = str((await api.call("POST", "/v1/streams", {"title": "Deliveries"}))["id"])
    await api.call("POST", f"/v1/streams/{stream}/start")
    return stream


class Host:
    """Who acts on one stream, at the desk of one of its watchers."""

    def __init__(
        self, stream: str, api: Api, desk: Watcher, speakers: list[Watcher], random: Random
    ) -> None:
        self.stream = stream
        self.deeds = Deeds()
        self.said: set[str] = set()
        self.last: dict[str, str] = {}  # what was said at rest, and its message ids
        self.unpinned_last = ""
        self._api = api
        self._desk = desk
        self._speakers = speakers
        self._random = random
        self._product = ""
        self._offer = ""  # the one on sale; '': none
        self._pins: deque[str] = deque(maxlen=PINS_MAX)
        self._messages: deque[str] = deque(maxlen=50)
        self._numbers = itertools.count(1)
        self._resting = False

    async def set_up(self) -> None:
        """Make the product that all offers are of."""
        wanted = {"sku": self.stream, "title": "限量茶具組", "price_minor": 1999, "currency": "TWD"}
        self._product = (await self._api.call("POST", "/v1/products", wanted))["id"]

    def rest(self) -> None:
        """Let `act` and `talk` end with what they are at."""
        self._resting = True

    async def act(self, per_s: float) -> None:
        """Pin, unpin, sell and remove, one command after the other."""
        ways = (self._pin, self._unpin, self._sell, self._remove)
        while not self._resting:
            await asyncio.sleep(self._random.expovariate(per_s))
            (way,) = self._random.choices(ways, (4, 3, 5, 1))
            await way()

    async def talk(self, per_s: float) -> None:
        """Have viewers speak, whether others were answered yet or not."""
        speaking: set[asyncio.Task[str]] = set()
        while not self._resting:
            await asyncio.sleep(self._random.expovariate(per_s))
            task = asyncio.ensure_future(self._say())
            speaking.add(task)
            task.add_done_callback(speaking.discard)
        await asyncio.gather(*speaking)

    async def last_words(self) -> None:
        """Say and do something that everybody must hear of, now that all is well."""
        if self._offer:
            await self._insist("offer.restock", self._offer, offer=self._offer, add=1, key="last")
        pin, ends = "", time.monotonic() + OUTCOME_S
        while not pin and time.monotonic() < ends:
            pin = await self._pin()
        await self._insist("unpin", pin, pin=pin)
        self.unpinned_last = pin
        for _ in range(LAST_WORDS):
            await self._say(keep=True)

    async def listed(self) -> list[Event]:
        """Return the stream's offers, as HTTP lists them."""
        found: list[Event] = []
        cursor: str | None = ""
        while cursor is not None:
            more = f"&cursor={cursor}" if cursor else ""
            page = await self._api.call("GET", f"/v1/streams/{self.stream}/offers?limit=200{more}")
            found += page["items"]
            cursor = page["next_cursor"]
        return found

    # --- commands --------------------------------------------------------------------------------

    async def _pin(self) -> str:
        answer = await self._ask("pin", product=self._product)
        if answer is None:
            self.deeds.lost("pin")
            return ""
        pin = str(answer["pin"]["id"])
        self.deeds.done("pin", pin)
        self._pins.append(pin)
        return pin

    async def _unpin(self) -> None:
        if not self._pins:
            return
        pin = self._pins.popleft()
        answer = await self._ask("unpin", "not_found", pin=pin)
        if answer is None:
            self.deeds.lost("unpin")
        elif answer["type"] == "ok":
            self.deeds.done("unpin", pin)

    async def _sell(self) -> None:
        """The next step of an offer's life: opened, restocked some times, closed."""
        if not self._offer:
            terms = {"product": self._product, "price_minor": 1999, "quantity": 10}
            path = f"/v1/streams/{self.stream}/offers"
            offer = (await self._api.call("POST", path, terms, deadline_s=OUTCOME_S))["id"]
            if await self._insist("offer.open", offer, offer=offer):
                self._offer = offer
        elif self._random.random() < 0.8:
            key = f"restock-{next(self._numbers)}"
            await self._insist("offer.restock", self._offer, offer=self._offer, add=1, key=key)
        elif await self._insist("offer.close", self._offer, offer=self._offer):
            self._offer = ""

    async def _remove(self) -> None:
        """Take a message away; one that was lost with the log cannot be."""
        if self._messages:
            await self._ask("chat.remove", "not_found", message=self._messages.popleft())

    async def _say(self, keep: bool = False) -> str:
        """Have somebody say something new, under one key until it is answered; return its id."""
        number = next(self._numbers)
        text = f"{number} " + "好" * self._random.randrange(TEXT_CHARS_MAX)
        self.said.add(text)
        ends = time.monotonic() + OUTCOME_S
        speaker = self._random.choice(self._speakers)
        while time.monotonic() < ends:
            await until(lambda: speaker.link is not None, OUTCOME_S, 0.05)
            answer = await speaker.ask("chat", text=text, key=f"say-{number}")
            if answer is not None and answer["type"] == "ok":
                message = str(answer["message"]["id"])
                self._messages.append(message)
                if keep:
                    self.last[text] = message
                return message
            if answer is not None and answer["code"] not in PASSING:
                self._found(f"chat was answered {answer}")
                return ""
            await asyncio.sleep(self._random.uniform(0.1, 0.5))
        self._found(f"chat was not answered in {OUTCOME_S:g} s: {number}")
        return ""

    async def _insist(self, command: str, subject: str, **fields: object) -> bool:
        """Send a command, which counts once however often it is sent, until it is acknowledged."""
        ends = time.monotonic() + OUTCOME_S
        while time.monotonic() < ends:
            answer = await self._ask(command, **fields)
            if answer is not None:
                self.deeds.done(command, subject)
                return True
            await asyncio.sleep(self._random.uniform(0.1, 0.5))
        self._found(f"{command} was not answered in {OUTCOME_S:g} s")
        self.deeds.lost(command)
        return False

    async def _ask(self, command: str, *due: str, **fields: object) -> Event | None:
        """Send a command once; return `ok` or a refusal that is due, None if nobody knows."""
        await until(lambda: self._desk.link is not None, OUTCOME_S, 0.02)
        answer = await self._desk.ask(command, **fields)
        if answer is None or answer["type"] == "ok":
            return answer
        if answer["code"] not in (*due, *PASSING):
            self._found(f"{command} {fields} was answered {answer}")
        return answer if answer["code"] in due else None

    def _found(self, what: str) -> None:
        self._desk.reader.found(f"host of {self.stream}: {what}")
