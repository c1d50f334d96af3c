// The viewer's places on waitlists: asked for, shown, and gone once they became an order.
//
// The server decides who gets what; a place here is what it said last. It is asked again now and
// then, since nobody is told when those before him got theirs.

const ASK_MS = 10_000;

export class Places {
  #cart;
  #api;
  #changed;
  #places = new Map(); // offer id -> {position, key, at}; position null: he does not wait

  constructor(cart, api, changed) {
    this.#cart = cart;
    this.#api = api;
    this.#changed = changed;
  }

  /** Where this viewer stands, from 1; null when he does not wait, or it is not known yet. */
  of(offer) {
    const place = this.#places.get(offer.id);
    const orders = [...this.#cart.room.orders.values()];
    if (orders.some((order) => order.offer === offer.id && order.key === place?.key)) return null;
    return place?.position ?? null;
  }

  /** Ask where he stands, unless that was asked lately; who was not asked for waits nowhere. */
  refresh(offer) {
    const place = this.#places.get(offer.id);
    if (place ? performance.now() - place.at < ASK_MS : !offer.waiting) return;
    this.#keep(offer.id, place?.position ?? null, place?.key);
    this.#ask(offer.id);
  }

  async #ask(id) {
    try {
      const { items } = await this.#api.get(`/v1/offers/${encodeURIComponent(id)}/waitlist`);
      this.#keep(id, items[0]?.position ?? null, items[0]?.key);
    } catch (problem) {
      console.warn("no place on the list of", id, problem.message); // asked again in a while
    }
  }

  /** Join, or leave where he waits; resolves to what the command did. */
  async toggle(offer, qty) {
    const leaves = this.of(offer) !== null;
    const answer = await (leaves ? this.#cart.leave(offer.id) : this.#cart.wait(offer.id, qty));
    if (!answer.code) this.#keep(offer.id, answer.position ?? null, answer.key);
    return answer;
  }

  #keep(id, position, key) {
    this.#places.set(id, { position, key, at: performance.now() });
    this.#changed();
  }
}
