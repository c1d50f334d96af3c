"""Viewers of livecart for Locust: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`.

Owns the user class, its options and nothing else: sockets, answers and what is checked of them are
those of `livecart-loadtest run`, in a process beside each worker. Every deed is told to Locust, and
the run ends with the same result. docs/loadtest-locust.md says how to start it.
"""

from __future__ import annotations

import random
from time import perf_counter_ns
from typing import Any
from weakref import WeakKeyDictionary

from locust import User, events, tag, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from loadtest.floor import Floor
from loadtest.usher import Open

_events: Any = events
_floors: WeakKeyDictionary[Environment, Floor] = WeakKeyDictionary()


def _add_options(parser: LocustArgumentParser, **_: Any) -> None:
    add = parser.add_argument_group("livecart").add_argument
    add("--offers", type=int, default=1, help="Offers that are open from the start.")
    add("--units", type=int, default=1_000, help="Units of each offer.")
    add("--per-viewer", type=int, default=4, help="Units that one viewer may have of an offer.")
    add("--buys", type=int, default=5, help="Buys that a viewer makes of each offer, at most.")
    add("--qty", type=int, default=1, help="Units of a buy.")
    add("--think", dest="think_s", type=float, default=1.0, help="Mean seconds between deeds.")
    add("--answer-timeout", dest="answer_s", type=float, default=10.0, help="Seconds.")
    add("--pool", type=int, default=0, help="Viewers that a worker can bring; 0: twice --users.")
    add("--seed", type=int, default=1, help="Of what viewers say, and their networks.")
    add("--subprotocol", choices=["json", "msgpack"], default="json", help="Of the WebSockets.")
    add("--network", default="none", help="Of the viewers: a mix such as 4g:0.7,train:0.3.")
    add("--once", action="store_true", help="End once all users have made all their buys.")
    add("--out", default="", help="Write the result here, for `livecart-loadtest report`.")
    add("--history", default="", help="Write what buyers saw here, for `livecart-loadtest audit`.")
    for name in ("database", "redis", "gate"):
        parser.add_argument(
            f"--{name}-url",
            default="",
            env_var=f"LIVECART_{name.upper()}_URL",
            include_in_web_ui=False,
            help="For the audit, which the master does.",
        )


def _init(environment: Environment, **_: Any) -> None:
    _floors[environment] = Floor(environment)


_events.init_command_line_parser.add_listener(_add_options)
_events.init.add_listener(_init)


class LiveViewer(User):
    """One viewer of the stream: comes, buys, talks, and leaves when Locust stops it."""

    def on_start(self) -> None:
        """Come; a viewer who is not let in stops here."""
        self._usher = _floors[self.environment].usher()
        self._open: Open | None = None
        self._due_ns = 0
        self._left = dict.fromkeys(range(len(self._usher.stage.offers)), self._usher.stage.buys)
        viewer = self._usher.viewer()
        self._viewer = viewer
        if viewer is None or self._do("enter") != "welcome":
            raise StopUser

    def on_stop(self) -> None:
        """Hear the answer that is still open, and leave."""
        if getattr(self, "_viewer", None) is None:
            return  # never came
        if self._open is not None:
            self._usher.wait(self._open)
        self._due_ns = 0
        self._do("leave")

    def wait_time(self) -> float:
        """Think for a while; what comes next is due after it, however late Locust wakes up."""
        mean_s = self._usher.stage.think_s
        wait_s = random.expovariate(1 / mean_s) if mean_s else 0.0
        self._due_ns = perf_counter_ns() + int(wait_s * 1e9)
        return wait_s

    @tag("buy")
    @task(5)
    def buy(self) -> None:
        """Buy of an offer, as long as there are buys left for this viewer."""
        offers = [offer for offer, left in self._left.items() if left]
        if offers:
            offer = random.choice(offers)
            self._left[offer] -= 1
            buys = self._usher.stage.buys
            self._do("buy", (offer + 1) * buys - 1 - self._left[offer])

    @tag("react")
    @task(3)
    def react(self) -> None:
        """Show what one feels; nothing is answered to that."""
        self._do("react")

    @tag("chat")
    @task(1)
    def chat(self) -> None:
        """Say something."""
        self._do("chat")

    @tag("ping")
    @task(1)
    def ping(self) -> None:
        """Ask whether the server is there."""
        self._do("ping")

    def _do(self, what: str, buy: int = 0) -> str:
        assert self._viewer is not None
        due_ns, self._due_ns = self._due_ns, 0
        self._open = self._usher.begin(self._viewer, what, due_ns, buy)
        code = self._usher.wait(self._open)
        self._open = None
        return code
