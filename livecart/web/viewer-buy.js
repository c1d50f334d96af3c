// Buying and waiting: what this viewer has asked for, and what the server made of it.
//
// Owns the number chosen, what is under way and what was last answered, each by offer; so that the
// big card and the drawer, which may show the same offer, agree. Knows no DOM.

import { standing } from "./viewer-state.js";

/** Standings that are what a refusal spoke of: its cause has come to be known, and is not gone. */
const SPOKEN_OF = { sold_out: "sold_out", limit_reached: "limit", not_open: "closed" };

export class Basket {
  #cart;
  #places;
  #changed;
  #answered;
  #qty = new Map(); // offer id -> units chosen
  #busy = new Set(); // offers whose purchase is under way
  #refused = new Map(); // offer id -> {answer, name}: the last refusal, and the standing it is about

  /** `answered(offer, answer)` is told what each purchase and each place on a list came to. */
  constructor(cart, places, changed, answered = () => {}) {
    this.#cart = cart;
    this.#places = places;
    this.#changed = changed;
    this.#answered = answered;
  }

  /** Where the viewer stands with an offer now; see `standing`. */
  standing(offer) {
    const { room, clock } = this.#cart;
    const found = standing({
      room,
      offer,
      nowMs: clock.now(),
      place: this.#places.of(offer),
      busy: this.#busy.has(offer.id),
    });
    if (found.name === "waitlisted" || found.act === "wait") this.#places.refresh(offer);
    return found;
  }

  /** The number of units chosen, within what the viewer may still take (`most`). */
  qty(offer, most) {
    return Math.max(1, Math.min(this.#qty.get(offer.id) ?? 1, most));
  }

  /** One more or one less. */
  turn(offer, by, most) {
    this.#qty.set(offer.id, Math.max(1, Math.min(this.qty(offer, most) + by, most)));
    this.#changed();
  }

  /** The refusal that the last attempt met, or undefined; gone once he stands elsewhere (`name`). */
  refused(offer, name) {
    const kept = this.#refused.get(offer.id);
    if (kept === undefined || kept.name === name) return kept?.answer;
    if (SPOKEN_OF[kept.answer.code] !== name) {
      this.#refused.delete(offer.id);
      return undefined;
    }
    kept.name = name;
    return kept.answer;
  }

  /** Buy the number chosen, once at a time; the outcome shows in the room and in `refused`. */
  async buy(offer, most) {
    if (this.#busy.has(offer.id)) return;
    this.#busy.add(offer.id);
    this.#refused.delete(offer.id);
    this.#changed();
    const answer = await this.#cart.buy(offer.id, this.qty(offer, most));
    this.#busy.delete(offer.id);
    if (answer.order) this.#qty.delete(offer.id);
    this.#keep(offer, answer);
  }

  /** Join the waitlist, or leave it. */
  async toggleWait(offer, most) {
    this.#refused.delete(offer.id);
    this.#keep(offer, await this.#places.toggle(offer, this.qty(offer, most)));
  }

  #keep(offer, answer) {
    if (answer.code) {
      const known = this.#cart.room.offers.get(offer.id) ?? offer; // it may have changed meanwhile
      this.#refused.set(offer.id, { answer, name: this.standing(known).name });
    }
    this.#answered(offer, answer);
    this.#changed();
  }
}
