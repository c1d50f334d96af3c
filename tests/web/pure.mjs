// Loads a module of the pages that imports nothing, as it is served: text in, module out.

import { readFile } from "node:fs/promises";

const WEB = new URL("../../livecart/web/", import.meta.url);

/** The module of that name under `livecart/web/`. */
export async function pure(name) {
  const source = await readFile(new URL(name, WEB), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(source)}`);
}
