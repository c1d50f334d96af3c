// @ts-check
// Why connections end: the close codes that this client acts on (protocol, section 3).

export const NOT_A_MESSAGE = 4400;
export const BAD_TOKEN = 4401;
export const FORBIDDEN = 4403;
export const NOT_FOUND = 4404;
export const SILENT = 4408;
export const TOO_MANY = 4429;
export const DRAINING = 4503;

/** What a WebSocket says of a connection that ended without a word. */
export const LOST = 1006;

/** Close codes after which the same attempt can only fail again. */
export const FINAL_CODES = new Set([4400, 4401, 4403, 4404, 4413]);
