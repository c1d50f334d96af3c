"""What one Locust process does in a run, whichever it is: master, worker, or the only one.

Owns the messages between master and workers, and when the run is set up, shared out and finished.
A master has a lead, a worker an usher, the only process both. Knows no stream, no socket and no
asyncio. Importing it imports Locust, which patches the process: only locustfile does.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any, Final, cast

import gevent  # type: ignore[import-untyped]
import msgspec
from gevent.event import AsyncResult, Event  # type: ignore[import-untyped]
from gevent.lock import RLock  # type: ignore[import-untyped]
from locust import argument_parser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import STATE_CLEANUP, STATE_MISSING, MasterRunner, WorkerRunner
from rich.console import Console

from loadtest.desk_asks import Begin
from loadtest.lead import Lead, open_desk
from loadtest.partner import PartnerFailed
from loadtest.result import EXIT, Result
from loadtest.shares import Part, Sign, Stage, parts_of
from loadtest.usher import Usher, open_station, right

SIGN_EVERY_S: Final = 1.0
PARENT_EVERY_S: Final = 1.0
STATION_TIMEOUT_S: Final = 120.0
FINISH_TIMEOUT_S: Final = 900.0
LOCAL: Final = "local"
COULD_NOT_PLAY: Final = 2

#: Messages of ours; what is in one is MessagePack under `data`.
HERE, STAGE, SIGN, PART, LOST, FINISH = (
    f"livecart.{name}" for name in ("here", "stage", "sign", "part", "lost", "finish")
)
#: Addresses with passwords in them: Locust would send them to every worker, so they are taken out.
PRIVATE: Final = ("database_url", "redis_url", "gate_url")

log = logging.getLogger(__name__)


def ease_spawning() -> None:
    """Let Locust's workers build their parser once, not for each option of each spawn message.

    Locust 2.47 asks for its defaults within a loop over all options: 3 ms for each of a hundred. On
    a busy machine a worker is then silent for seconds, and its master takes it for missing.
    """
    argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)


class ActFailed(Exception):
    """What a viewer did had no answer, or one that was not due."""


class Floor:
    """One process, over all runs that it takes part in."""

    def __init__(self, environment: Environment) -> None:
        """Listen to what concerns this kind of process."""
        # Timers count from when the loop last looked at the clock, which was before all imports.
        gevent.get_hub().loop.update_now()
        # Locust's own types know neither our options nor what an event takes.
        self._options = cast("Any", environment.parsed_options)
        self._runner = cast("Any", environment.runner)
        self._events = cast("Any", environment.events)
        self._environment = environment
        self._is_master = isinstance(self._runner, MasterRunner)
        self._is_worker = isinstance(self._runner, WorkerRunner)
        self._secret = os.environ.get("LIVECART_SECRET", "")
        self._private = taken_out(vars(self._options))
        self._station = None if self._is_master else open_station()  # for the next run
        self._lead: Lead | None = None
        self._run = ""  # that this process has a stage of
        self._usher = AsyncResult()  # of that run, or of the one to come
        self._beating: Any = None
        self._giving = RLock()  # a worker that is told to go must not go in the middle of it
        self._quits = False  # with the last buy of this run
        self._finishing = False
        self._finished = Event()
        self._events.test_start.add_listener(self._started)
        self._events.test_stop.add_listener(self._stopped)
        self._events.quitting.add_listener(self._quitting)
        if self._is_master:
            for message, listener in {
                HERE: self._heard_here,
                SIGN: self._heard_sign,
                PART: self._heard_part,
                LOST: self._heard_lost,
            }.items():
                self._runner.register_message(message, listener, concurrent=True)
        elif self._is_worker:
            ease_spawning()
            self._runner.register_message(STAGE, self._heard_stage)
            self._runner.register_message(FINISH, self._heard_finish, concurrent=True)
            self._runner.send_message(HERE)
            if self._options.processes:
                gevent.spawn(self._outlive_nobody)
        self._desk = None if self._is_worker else open_desk()

    def usher(self) -> Usher:
        """Return this run's usher, waiting for its station; StopUser when there is none."""
        try:
            usher: Usher = self._usher.get(timeout=STATION_TIMEOUT_S)
        except (gevent.Timeout, PartnerFailed, TimeoutError) as error:
            raise StopUser from error
        return usher

    # --- the run, in every process -----------------------------------------------------------

    def _started(self, **_: Any) -> None:
        if self._is_worker:
            return  # its part begins with its stage
        self._quits = self._finishing = False
        self._finished.clear()
        try:
            assert self._desk is not None
            self._lead = Lead(self._desk, self._begin())
        except (PartnerFailed, TimeoutError) as error:
            log.error("the sale could not be set up: %s", error)
            self._environment.process_exit_code = COULD_NOT_PLAY
            gevent.spawn(self._runner.quit)
            return
        if self._is_master:
            for worker in list(self._runner.clients):
                self._send_stage(worker)
        else:
            self._take_stage(self._lead.enlist(LOCAL))

    def _stopped(self, **_: Any) -> None:
        if self._is_worker:
            self._give_share()
        elif self._lead is not None and not self._finishing:
            self._finishing = True
            try:
                self._finish(self._lead)
            except (PartnerFailed, TimeoutError) as error:
                log.error("the run could not be judged: %s", error)
                self._environment.process_exit_code = COULD_NOT_PLAY
            finally:
                self._lead = None
                self._finished.set()

    def _quitting(self, **_: Any) -> None:
        """See to it that a run which is on is told of, before the exit status is fixed."""
        if self._finishing:
            self._finished.wait(FINISH_TIMEOUT_S)
        elif self._is_master:
            self._runner.quit()
        else:
            self._runner.stop()
            if self._is_worker:
                self._give_share()
        for partner in (self._desk, self._station):
            if partner is not None:
                partner.end()

    # --- the leading side --------------------------------------------------------------------

    def _begin(self) -> Begin:
        options = self._options
        users = self._runner.target_user_count or 1
        shown = ("offers", "units", "per_viewer", "buys", "qty", "think_s", "subprotocol",
                 "network")  # fmt: skip
        return Begin(
            http=(self._environment.host or "").rstrip("/"),
            database_url=self._private["database_url"],
            gate_url=self._private["gate_url"] or self._private["redis_url"],
            offers=options.offers,
            units=options.units,
            per_viewer=options.per_viewer,
            buys=options.buys,
            qty=options.qty,
            # Users of a worker that is lost come back on the others, as new viewers.
            viewers=options.pool or 2 * users,
            seed=options.seed,
            subprotocol=options.subprotocol,
            network=options.network,
            think_s=options.think_s,
            answer_s=options.answer_s,
            configuration={
                "users": users,
                **{name: getattr(options, name) for name in shown},
                "server": self._environment.host,
            },
        )

    def _finish(self, lead: Lead) -> None:
        if self._is_master:
            self._runner.send_message(FINISH, {})
            lead.wait(self._gone)
        else:
            self._give_share()
        result = lead.judge(self._options.out, self._options.history)
        self._tell(result)

    def _tell(self, result: Result) -> None:
        from loadtest.summary import show  # slow to import, and nobody waits for it here

        show(Console(), result)
        # Passed, Locust's own rule holds: 1 when any request failed.
        if status := EXIT[result.verdict]:
            self._environment.process_exit_code = status

    def _gone(self, worker: str) -> str:
        client = self._runner.clients.get(worker)
        if client is None:
            return "it left without its share"
        return "no sign of life" if client.state == STATE_MISSING else ""

    def _send_stage(self, worker: str) -> None:
        if self._lead is not None and not self._finishing:
            data = msgspec.msgpack.encode(self._lead.enlist(worker))
            self._runner.send_message(STAGE, {"data": data}, worker)

    def _heard_here(self, msg: Any, **_: Any) -> None:
        self._send_stage(msg.node_id)

    def _heard_sign(self, msg: Any, **_: Any) -> None:
        self._note(msg.node_id, msgspec.msgpack.decode(msg.data["data"], type=Sign))

    def _note(self, worker: str, sign: Sign) -> None:
        """Take a sign of life; end the run with the last buy, when that is wanted."""
        if self._lead is None or self._finishing:
            return
        self._lead.note(worker, sign)
        options = self._options
        wanted = self._runner.target_user_count * options.buys * options.offers
        if options.once and self._lead.buys >= wanted and not self._quits:
            self._quits = True
            log.info("every user has made every buy")
            gevent.spawn(self._runner.quit)

    def _heard_part(self, msg: Any, **_: Any) -> None:
        if self._lead is not None:
            self._lead.take(msg.node_id, msgspec.msgpack.decode(msg.data["data"], type=Part))

    def _heard_lost(self, msg: Any, **_: Any) -> None:
        if self._lead is not None:
            self._lead.lose(msg.node_id, msg.data["run"], msg.data["why"])

    # --- the working side --------------------------------------------------------------------

    def _heard_stage(self, msg: Any, **_: Any) -> None:
        """Take the next run's stage: at once, since its users come right behind it."""
        self._take_stage(msgspec.msgpack.decode(msg.data["data"], type=Stage))

    def _take_stage(self, stage: Stage) -> None:
        if self._run == stage.run:
            return  # told twice: it asked, and the run began
        self._run = stage.run
        gevent.spawn(self._usher_in, stage, self._usher)

    def _usher_in(self, stage: Stage, ready: AsyncResult) -> None:
        station, self._station = self._station or open_station(), None
        try:
            if not self._secret:
                raise PartnerFailed("LIVECART_SECRET is not set, and viewers need tokens")
            usher = Usher(station, stage, self._secret, self._told)
        except (PartnerFailed, TimeoutError) as error:
            station.end()
            ready.set_exception(error)
            return
        self._beating = gevent.spawn(self._beat, usher)
        ready.set(usher)

    def _beat(self, usher: Usher) -> None:
        try:
            while True:
                gevent.sleep(SIGN_EVERY_S)
                sign = usher.beat()
                if self._is_worker:
                    self._runner.send_message(SIGN, {"data": msgspec.msgpack.encode(sign)})
                else:
                    self._note(LOCAL, sign)
        except (PartnerFailed, TimeoutError) as error:
            log.error("the beat ends: %s", error)

    def _end_beating(self) -> None:
        """A beat takes what came since the last one: its share must not be between two."""
        if self._beating is not None:
            self._beating.kill()
            self._beating = None

    def _give_share(self) -> None:
        """Collect what was seen, and say so if nothing can be; once, whoever asks first."""
        with self._giving:
            if self._run:
                self._give()

    def _give(self) -> None:
        ready, self._usher = self._usher, AsyncResult()
        run, self._run = self._run, ""
        try:
            usher: Usher = ready.get(timeout=STATION_TIMEOUT_S)
            self._end_beating()
            share = usher.share()
        except (PartnerFailed, TimeoutError, gevent.Timeout) as error:
            log.error("this worker has no share: %s", error)
            if self._is_worker:
                self._runner.send_message(LOST, {"run": run, "why": str(error)})
            elif self._lead is not None:
                self._lead.lose(LOCAL, run, str(error))
            return
        if self._is_worker:
            for part in parts_of(run, share):
                self._runner.send_message(PART, {"data": msgspec.msgpack.encode(part)})
        elif self._lead is not None:
            self._lead.take_whole(LOCAL, share)
        usher.close()

    def _heard_finish(self, **_: Any) -> None:
        """Have users finish and leave; the share goes when the last has."""
        if self._runner.state != STATE_CLEANUP:  # else it is stopping already, by Ctrl-C
            self._runner.stop()

    def _told(self, what: str, code: str, ms: float) -> None:
        """Have Locust count it; a refusal that is due is an answer."""
        failed = None if right(what, code) else ActFailed(code or "no answer")
        self._events.request.fire(
            request_type="ws",
            name=what,
            response_time=ms,
            response_length=0,
            exception=failed,
            context={},
        )

    def _outlive_nobody(self) -> None:
        """End with the process that forked this one (`--processes`), however that one ended."""
        parent = os.getppid()
        while os.getppid() == parent:
            gevent.sleep(PARENT_EVERY_S)
        log.error("the master is gone")
        self._runner.quit()


def taken_out(options: dict[str, Any]) -> dict[str, str]:
    """Take what nobody else may read out of Locust's options; return it."""
    private = {name: options.get(name) or "" for name in PRIVATE}
    options.update(dict.fromkeys(PRIVATE, ""))
    return private
