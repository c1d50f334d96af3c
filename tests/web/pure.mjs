// Loads a module of the pages that needs no browser, and what it imports: text in, module out.

import { readFile } from "node:fs/promises";

const WEB = new URL("../../livecart/web/", import.meta.url);

/** The module of that name under `livecart/web/`. */
export async function pure(name) {
  return import(await addressOf(name));
}

async function addressOf(name) {
  let source = await readFile(new URL(name, WEB), "utf8");
  for (const [whole, other] of source.matchAll(/ from "\.\/([\w-]+\.js)"/g)) {
    const address = await addressOf(other);
    source = source.replace(whole, () => ` from "${address}"`);
  }
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
