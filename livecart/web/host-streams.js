// The chosen stream of the host's page: which one, when it starts, live and ended, and the key that
// an encoder publishes with. Called by host.js; what a start or an end does is the server's.

import { Problem } from "./api.js";
import { at, clockText, h, keyed, say, tell } from "./dom.js";
import { act, button, desk, held, once, problemText, streamPath, timeOf, told } from "./host-desk.js";
import { counted, shown, sure } from "./host-dialog.js";
import { Making } from "./host-once.js";
import { number, t, timeText } from "./text.js";

const making = new Making();

let choose; // (stream): have the page show another stream

/** Wire the header and its dialogs, once; `choose` is how host.js changes streams. */
export function wireStreams(chooseStream) {
  choose = chooseStream;
  at("stream-choice").addEventListener("change", ({ target }) =>
    choose(desk.streams.find((stream) => stream.id === target.value)));
  for (const id of ["stream-new", "first-stream"]) {
    at(id).addEventListener("click", () => {
      tell(at("stream-outcome"), "");
      shown(at("stream-dialog"));
    });
  }
  at("stream-form").addEventListener("submit", (event) => {
    event.preventDefault();
    once(at("stream-submit"), create);
  });
  at("go-live").addEventListener("click", () => turn("start"));
  at("end").addEventListener("click", end);
  at("encoder-open").addEventListener("click", openEncoder);
  at("encoder-make").addEventListener("click", () => once(at("encoder-make"), makeKey));
}

/** Show which streams there are, and how the chosen one stands. */
export function showStreams() {
  const { stream } = desk;
  at("first").hidden = desk.streams.length > 0;
  at("stream-choice-label").hidden = desk.streams.length === 0;
  for (const id of ["now", "turns", "room"]) at(id).hidden = !stream;
  const select = at("stream-choice");
  keyed(select, desk.streams, ({ id }) => id, ({ id }) => h("option", { value: id }), (option, one) =>
    say(option, `${one.title} · ${t(`status_${one.status}`)}`));
  if (!stream) return;
  select.value = stream.id;
  say(at("live"), t(`status_${stream.status}`));
  at("live").dataset.status = stream.status;
  document.body.dataset.status = stream.status;
  at("go-live").hidden = stream.status !== "scheduled";
  at("end").hidden = stream.status !== "live";
  at("viewer-page").href = `/s/${encodeURIComponent(stream.id)}`;
  at("encoder-open").hidden = stream.status === "ended" || desk.keyless;
  showSince();
}

/** How long it has been live, or until it is to start; to be called each second. */
export function showSince() {
  const { stream, cart } = desk;
  if (!stream) return;
  const now = cart.clock.now();
  let text = "";
  if (stream.status === "live" && stream.started_at) text = clockText(now - stream.started_at);
  else if (stream.status === "scheduled" && stream.starts_at) {
    const leftMs = stream.starts_at - now;
    text = t("planned", { time: timeText(stream.starts_at) });
    if (leftMs > 0 && leftMs < 86_400_000) text += ` · ${clockText(leftMs)}`;
    else if (leftMs <= 0) text += ` · ${t("planned_due")}`;
  } else if (stream.status === "ended" && stream.ended_at) text = timeText(stream.ended_at);
  say(at("since"), text);
}

/** Take a stream as the server has just told it. */
export function keepStream(stream) {
  desk.streams = desk.streams.map((known) => (known.id === stream.id ? stream : known));
  if (desk.stream?.id === stream.id) desk.stream = stream;
  showStreams();
}

async function turn(step) {
  const made = await act("streams", () => desk.api.post(streamPath(`/${step}`)));
  if (made) keepStream(made);
  desk.refresh();
}

async function end() {
  if (await sure(t("end_title"), endCosts(), t("end_stream"))) turn("end");
}

/** What ending costs now, in sentences. */
function endCosts() {
  const open = desk.offers.filter(({ status }) => !["draft", "closed"].includes(status));
  const left = open.reduce((sum, offer) => sum + offer.left, 0);
  const { units, money } = held();
  return [
    t("end_final"),
    desk.cart.room.viewers > 0 && t("end_viewers", { n: number(desk.cart.room.viewers) }),
    open.length > 0 && t("end_offers", { n: number(open.length), left: number(left) }),
    units > 0 && t("end_unpaid", { holds: counted("unpaid_holds", units), amount: money }),
  ];
}

async function create() {
  const form = at("stream-form");
  const { title, starts_at, playback_url } = form.elements;
  const body = { title: title.value.trim(), starts_at: timeOf(starts_at) };
  if (playback_url.value) body.playback_url = playback_url.value.trim();
  const made = await act("stream", () => making.post(desk.api, "/v1/streams", body), "");
  if (!made) return undefined;
  form.reset();
  at("stream-dialog").close();
  told(at("streams-outcome"), t("created"), "good");
  desk.streams = [made, ...desk.streams.filter(({ id }) => id !== made.id)]; // asked for meanwhile
  return choose(made);
}

// --- the encoder's key ---

async function openEncoder() {
  at("encoder-shown").replaceChildren();
  tell(at("encoder-outcome"), "");
  at("encoder-make").hidden = false;
  await shown(at("encoder"));
  at("encoder-shown").replaceChildren(); // shown once: it is not kept anywhere here
}

/** Make a key and show what came back, each text with a button that copies it. */
async function makeKey() {
  if (!(await sure(t("encoder_make"), [t("encoder_cost")], t("encoder_make")))) return undefined;
  const outcome = at("encoder-outcome");
  tell(outcome, t("loading"));
  let made;
  try {
    made = await desk.api.post(streamPath("/key"));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) return desk.signOut(t("token_bad"));
    const without = problem.status === 404 || problem.status === 405;
    tell(outcome, without ? t("encoder_none") : problemText(problem), "bad");
    if (without) {
      desk.keyless = at("encoder-make").hidden = true;
      showStreams();
    }
    return undefined;
  }
  if (!at("encoder").open) return undefined; // nobody would see it, and it would stay in the page
  tell(outcome, t("encoder_once"), "good");
  at("encoder-make").hidden = true;
  const texts = Object.entries(made).filter(([, value]) => typeof value === "string");
  at("encoder-shown").replaceChildren(...texts.map(([name, value]) => {
    const label = ["stream", "key"].includes(name) ? t(`encoder_${name}`) : name;
    const field = h("input", { readonly: true, value, autocomplete: "off", "aria-label": label });
    return h("div", { class: "row tight" }, h("span", { class: "dim" }, label), field,
      button(t("copy"), async () => {
        field.select();
        try {
          await navigator.clipboard.writeText(value);
          tell(outcome, t("copied"), "good");
        } catch {
          tell(outcome, t("copy_by_hand")); // a page on plain http may not; it is selected
        }
      }));
  }));
  return undefined;
}
