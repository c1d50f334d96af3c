"""Which moment of the show a page's picture is at, and at which it showed what it heard.

Owns the script that watches a viewer's page: its own reading of the video's playlist, the events as
they come in, and the big card. Knows no rule of when anything should show. Used by `test_video`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Route

from tests.browser.browser_rig import HOW, Person

#: What `make player` fetches, of the same version and at the same place in the package.
PLAYER = Path(__file__).parents[1] / "web/node_modules/hls.js/dist/hls.light.min.mjs"


class Moment(NamedTuple):
    """A moment on a page."""

    playhead_ms: float  # programme time of the picture, since the epoch
    now_ms: float  # performance.now()


class Watched:
    """A page whose picture and big card are watched."""

    def __init__(self, person: Person) -> None:
        self.page = person.page

    @classmethod
    async def of(cls, person: Person, playlist: str) -> Watched:
        """Watch a person's page from its next load on; `playlist`: where its video is."""
        await person.context.add_init_script(_WATCH.replace("PLAYLIST", playlist))
        return cls(person)

    async def lags(self, least_ms: float, most_ms: float) -> None:
        """Have the picture be behind the show by so much, by playing faster or slower until then.

        Not where the browser plays HLS itself: Chromium then fails at a live video's rate.
        """
        await self.page.evaluate("([least, most]) => rig.lags(least, most)", [least_ms, most_ms])

    async def crawl(self) -> None:
        """Have the picture all but stand still from now on, as on a line that is too slow."""
        await self.page.evaluate("rig.crawl()")

    async def heard(self, what: str) -> Moment:
        """Wait until an event came, `pinned TITLE` or `offer.sold_out ID`; return when."""
        return await self._moment("heard", what)

    async def shown(self, what: str) -> Moment:
        """Wait until the big card showed a title as pinned, or `TITLE STATUS` with its offer's."""
        return await self._moment("shown", what)

    async def has_shown(self, what: str) -> bool:
        """Tell whether the big card has shown that as pinned by now."""
        found: bool = await self.page.evaluate("(what) => what in rig.shown", what)
        return found

    async def _moment(self, where: str, what: str) -> Moment:
        await self.page.wait_for_function("([where, what]) => rig[where][what]", arg=[where, what])
        found = await self.page.evaluate("([where, what]) => rig[where][what]", [where, what])
        return Moment(*found)


async def without_native_hls(person: Person) -> None:
    """Have a person's browser play no HLS of its own, and find the player where it is served."""
    if not PLAYER.exists():
        told = f"no hls.js: {HOW}"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)

    await _plays_by(person, PLAYER.read_text(encoding="utf-8"))


async def undecodable(person: Person) -> None:
    """Have a person's player find whatever it loads broken at once, as often as it tries."""
    await _plays_by(person, _BROKEN)


async def _plays_by(person: Person, player: str) -> None:
    async def serve(route: Route) -> None:
        await route.fulfill(body=player, content_type="text/javascript; charset=utf-8")

    await person.page.route("**/static/vendor/hls.light.min.mjs*", serve)
    await person.context.add_init_script(
        "const can = HTMLMediaElement.prototype.canPlayType;"
        "HTMLMediaElement.prototype.canPlayType = function (type) {"
        "  return type.includes('mpegurl') ? '' : can.call(this, type);"
        "};"
    )


#: A player in name only; `rig.players` is how many there were, `rig.recoveries` what they tried.
_BROKEN = """
const rig = (window.rig ??= { players: 0, recoveries: 0 });
export default class Player {
  static Events = { ERROR: "error" };
  static ErrorTypes = { MEDIA_ERROR: "media" };
  static isSupported = () => true;
  constructor() { rig.players++; }
  on(name, hear) { this.hear = hear; }
  loadSource() {}
  attachMedia() {
    this.timer = setTimeout(() => this.hear("error", { fatal: true, type: "media" }));
  }
  recoverMediaError() { rig.recoveries++; this.attachMedia(); }
  destroy() { clearTimeout(this.timer); }
}
"""

_WATCH = r"""
const rig = (window.rig = { originMs: Infinity, heard: {}, shown: {} });
const video = () => document.getElementById("video");
const playheadMs = () => rig.originMs + video().currentTime * 1000;
const moment = () => [playheadMs(), performance.now()];

// Programme time at position 0: where the playlist ends is where what is there to be played ends.
// A reading may be a segment ahead of the player, hence the earliest of all.
async function read() {
  const text = await (await fetch("PLAYLIST", { cache: "no-store" })).text();
  const last = (pattern) => [...text.matchAll(pattern)].at(-1)[1];
  const endMs = Date.parse(last(/DATE-TIME:(\S+)/g)) + Number(last(/#EXTINF:([\d.]+)/g)) * 1000;
  const { buffered } = video();
  const atMs = endMs - buffered.end(buffered.length - 1) * 1000;
  if (atMs < rig.originMs) rig.originMs = atMs;
}
setInterval(() => video()?.currentTime > 0 && read().catch(console.warn), 370);
// Positions begin anew with each load; media events do not bubble.
document.addEventListener("emptied", () => (rig.originMs = Infinity), { capture: true });

rig.lags = (least, most) => new Promise((resolve) => {
  const look = () => {
    const lagMs = Date.now() - playheadMs();
    video().playbackRate = lagMs < least ? 0.25 : lagMs > most ? 2 : 1;
    if (lagMs >= least && lagMs <= most) resolve();
    else setTimeout(look, 50);
  };
  look();
});
rig.crawl = () => (video().playbackRate = 0.0625);

const Line = WebSocket;
window.WebSocket = class extends Line {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", ({ data }) => {
      for (const frame of [JSON.parse(data)].flat()) {
        const about = frame.pin?.product?.title ?? frame.offer?.id ?? frame.offer;
        rig.heard[`${frame.type} ${about}`] ??= moment();
      }
    });
  }
};
new MutationObserver(() => {
  const card = document.querySelector("#pinned article.is-pinned");
  const title = card?.querySelector("h3").textContent;
  if (!title) return;
  rig.shown[title] ??= moment();
  rig.shown[`${title} ${card.querySelector(".chip").dataset.status}`] ??= moment();
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""
