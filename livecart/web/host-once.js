// What a form makes is made once: all tries of what was filled in share a key until it is known what
// they came to. Used by the forms of the host's page, refunds too; the server keeps the keys.

import { freshKey } from "./livecart.js";
import { t } from "./text.js";

// Refused before anybody looked at the key: an earlier try, whose answer was lost, may have been taken.
const UNREAD = [401, 429];

export class Making {
  #key = freshKey();

  /** What is sent from now on is another thing, whatever became of the one before. */
  renew() {
    this.#key = freshKey();
  }

  /** Make it; what was made by a try whose answer was lost comes back as made. Throws Problem. */
  async post(api, path, body) {
    const key = this.#key;
    const known = () => {
      if (this.#key === key) this.renew();
    };
    try {
      const made = await api.postOnce(path, body, key);
      known();
      return made;
    } catch (problem) {
      const answered = problem.status > 0 && problem.status < 500;
      if (answered && !UNREAD.includes(problem.status)) known();
      // It was changed after a try without an answer, and that one did arrive.
      if (problem.code === "key_reused") problem.message = t("made_already");
      throw problem;
    }
  }
}

/** A Making for each thing by its id: what is pressed again after no answer, however late, is one. */
export class Makings {
  #made = new Map();

  of(id) {
    if (!this.#made.has(id)) this.#made.set(id, new Making());
    return this.#made.get(id);
  }
}
