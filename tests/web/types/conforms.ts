// What livecart.d.ts declares is what the sources do: each export fits its declaration.

import * as sources from "../../../livecart/web/sdk/index.js";
import type * as declared from "../../../livecart/web/sdk/livecart.d.ts";

export const fits: typeof declared = sources;

// And nothing is exported that is not declared.
export const complete: Record<keyof typeof sources, unknown> = {} as typeof declared;
