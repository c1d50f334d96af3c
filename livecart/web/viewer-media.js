// The video: HLS by the browser itself, else by a player that is loaded only then, else a link.
//
// Owns the <video> element and its recovery, and says what programme time the picture is at. The
// page sells without it: nothing here is waited for, and no failure reaches beyond it.

import { Origins, playlistTimes, variantUrl } from "./media-time.js";

const PLAYER = "/static/vendor/hls.light.min.mjs"; // `make player` puts it there
const PLAYER_TRIES_MAX = 3;
const HLS_TYPE = "application/vnd.apple.mpegurl";
const WATCH_MS = 1_000;
const STALLED_MS = 8_000; // without a new picture for so long, the video is loaded anew
const AGAIN_FIRST_MS = 1_000;
const AGAIN_MAX_MS = 30_000;
const BEHIND_MAX_S = 20; // further from the edge than that (a locked phone), go to the edge
const EDGE_S = 4; // how near to the edge: a few segments must be there already
const BACK_S = 30; // how much of what was played is kept in memory
// Between two readings of the playlist, until there are enough and after that. No multiple of a
// usual segment's length: they would all fall into the time at which the player is a segment behind.
const READ_MS = 1_300;
const READ_LATER_MS = 31_300;
const FILE = /\.(mp4|webm|m4v|mov)$/i;

export class Film {
  state = "none"; // none, loading, playing, blocked (wants a tap), trouble, unplayable
  url = null;

  #video;
  #changed;
  #player = null; // hls.js, when it is what plays
  #turn = 0; // of loading; what an older one was waiting for is void
  #attempt = 0;
  #playerFailed = 0; // how often in a row the player could not be had
  #timers = {};
  #recoveredAt = -Infinity; // performance.now() of the player's last recovery by itself
  #seenAt = 0; // performance.now() of the last progress
  #seenS = 0;
  #origins = new Origins(); // programme time at position 0, from a playlist of ours
  #hiddenAt = null;

  constructor(video, changed) {
    this.#video = video;
    this.#changed = changed;
    video.addEventListener("playing", () => {
      this.#attempt = 0;
      this.#say("playing");
    });
    // A headset's button or the system's: from then on it takes a tap to go on.
    video.addEventListener("pause", () => {
      if (this.state === "playing" && !document.hidden) this.#say("blocked");
    });
    video.addEventListener("error", () => this.url !== null && this.#again());
    video.addEventListener("volumechange", changed);
    video.addEventListener("loadedmetadata", () => {
      video.classList.toggle("lying", video.videoWidth > video.videoHeight);
    });
    setInterval(() => this.#check(), WATCH_MS);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#hiddenAt = performance.now();
      else this.#wake(performance.now() - (this.#hiddenAt ?? performance.now()));
    });
  }

  /** Play that URL, or nothing (null); http and https only. */
  watch(url) {
    const wanted = url !== null && /^https?:\/\//.test(url) ? url : null;
    if (wanted === this.url) return;
    this.url = wanted;
    this.#attempt = 0;
    this.#playerFailed = 0;
    if (wanted === null) this.#stop("none");
    else this.#load();
  }

  /** Sound on or off; a browser lets a video begin by itself only without. */
  toggleSound() {
    this.#video.muted = !this.#video.muted;
    if (this.#video.paused) this.play();
  }

  get muted() {
    return this.#video.muted;
  }

  /** Play, by a tap where the browser wants one. */
  play() {
    this.#video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#say("blocked");
      // Else the load was given up or failed, which `error` and the watch over progress see.
    });
  }

  /** The page is looked at again: go on, and near the live edge. */
  #wake(hiddenMs) {
    if (this.url === null || this.state === "unplayable") return;
    const { seekable, currentTime, duration } = this.#video;
    const live = duration === Infinity;
    // Where the past of a live video cannot be sought in, only a new load is at the edge.
    const stuck = live && seekable.length === 0 && hiddenMs > BEHIND_MAX_S * 1000;
    if (this.state === "trouble" || stuck) {
      this.#load();
      return;
    }
    this.#seenAt = performance.now();
    if (live && seekable.length > 0) {
      const end = seekable.end(seekable.length - 1);
      if (end - currentTime > BEHIND_MAX_S) this.#video.currentTime = end - EDGE_S;
    }
    if (this.#video.paused && this.state !== "blocked") this.play();
  }

  /** Programme time of the picture in ms since the epoch, or null when it is not known. */
  playheadMs() {
    const video = this.#video;
    if (this.state !== "playing") return null;
    const date = this.#player?.playingDate;
    if (date) return date.getTime();
    const startMs = startOf(video) ?? this.#origins.ms;
    return startMs === null ? null : startMs + video.currentTime * 1000;
  }

  async #load() {
    this.#stop("loading");
    const mine = this.#turn;
    this.#origins = new Origins(); // positions begin anew with each load
    const url = this.url;
    const video = this.#video;
    this.#seenAt = performance.now();
    const file = FILE.test(new URL(url).pathname);
    if (file || video.canPlayType(HLS_TYPE) !== "") {
      video.src = url;
      this.play();
      if (!file) this.#readOrigins(url, mine);
      return;
    }
    try {
      // Under another address each time: some browsers keep a failure like the module itself.
      const again = this.#playerFailed > 0 ? `?again=${this.#playerFailed}` : "";
      const { default: Hls } = await import(PLAYER + again);
      if (mine !== this.#turn) return;
      if (!Hls.isSupported()) throw new Error("no media source extensions");
      const options = { enableWorker: false, lowLatencyMode: true, backBufferLength: BACK_S };
      this.#play(new Hls(options), Hls, url);
    } catch (error) {
      if (mine !== this.#turn) return;
      console.warn("no player for this video:", error.message);
      // A module that did not come, since the network was away, is a TypeError.
      const absent = error instanceof TypeError && ++this.#playerFailed <= PLAYER_TRIES_MAX;
      if (absent) this.#again();
      else this.#stop("unplayable");
    }
  }

  #play(player, Hls, url) {
    this.#player = player;
    player.on(Hls.Events.ERROR, (_, { fatal, type }) => {
      if (!fatal) return;
      const nowMs = performance.now();
      // What fails again at once is not mended by the player itself, which would try for ever.
      if (type !== Hls.ErrorTypes.MEDIA_ERROR || nowMs - this.#recoveredAt < STALLED_MS) {
        this.#again();
        return;
      }
      this.#recoveredAt = nowMs;
      player.recoverMediaError();
      this.play(); // to recover is to take the video off and on, which pauses it
    });
    player.loadSource(url);
    player.attachMedia(this.#video);
    this.play();
  }

  #stop(state) {
    this.#turn++;
    clearTimeout(this.#timers.again);
    this.#player?.destroy();
    this.#player = null;
    if (this.#video.hasAttribute("src")) {
      this.#video.removeAttribute("src");
      this.#video.load();
    }
    this.#say(state);
  }

  #again() {
    this.#stop("trouble");
    const waitMs = Math.min(AGAIN_MAX_MS, AGAIN_FIRST_MS * 2 ** this.#attempt++);
    this.#timers.again = setTimeout(() => this.#load(), waitMs * (0.5 + Math.random() / 2));
  }

  /** A live stream that stands still does not always say so. */
  #check() {
    const video = this.#video;
    const nowMs = performance.now();
    const waits = document.hidden || ["none", "blocked", "trouble", "unplayable"].includes(this.state);
    if (waits || video.currentTime !== this.#seenS) {
      this.#seenS = video.currentTime;
      this.#seenAt = nowMs;
    } else if (nowMs - this.#seenAt > STALLED_MS) this.#again();
  }

  /**
   * Read the playlist ourselves, where the browser plays it without telling its dates; from the
   * first picture on, so that the first pin finds them known.
   */
  async #readOrigins(url, turn) {
    const origins = this.#origins;
    while (turn === this.#turn) {
      let pauseMs = origins.enough ? READ_LATER_MS : READ_MS;
      if (this.state === "playing" && !document.hidden && startOf(this.#video) === null) {
        // Before asking, so that the answer is never older than what the player has read.
        const edgeS = edgeOf(this.#video);
        try {
          const times = await timesOf(url);
          if (times !== null && edgeS !== null) origins.take(times, edgeS);
        } catch (error) {
          // Another origin that does not let itself be read: pins then show without waiting.
          console.warn("no dates of the video:", error.message);
          pauseMs = READ_LATER_MS;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  #say(state) {
    this.state = state;
    this.#changed();
  }
}

/** The last position that is there to be played, in seconds; null when nothing is. */
function edgeOf({ seekable, buffered }) {
  const ranges = seekable.length > 0 ? seekable : buffered;
  return ranges.length > 0 ? ranges.end(ranges.length - 1) : null;
}

/** Programme time at position 0 where the browser tells it (Safari), in ms; else null. */
function startOf(video) {
  const ms = video.getStartDate?.().getTime() ?? NaN;
  return Number.isNaN(ms) ? null : ms;
}

async function timesOf(url) {
  const text = await textOf(url);
  const variant = variantUrl(text, url);
  return playlistTimes(variant === null ? text : await textOf(variant));
}

async function textOf(url) {
  const response = await fetch(url, { cache: "no-store", credentials: "omit" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.text();
}
