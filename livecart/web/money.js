// Money: integers in the currency's minor unit, as ISO 4217 counts it, to and from text.
//
// Intl knows symbols and grouping, but its number of digits is CLDR's habit of display, not the
// standard's exponent (IDR: CLDR 0, ISO 2; HUF: 0 and 2; IQD: 0 and 3). An amount divided by the
// wrong one would be off by a hundred, so the exponents that are not 2 are written out here.

const EXPONENT = {};
const listed = {
  0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
  3: "BHD IQD JOD KWD LYD OMR TND",
  4: "CLF UYW",
};
for (const [digits, codes] of Object.entries(listed)) {
  for (const code of codes.split(" ")) EXPONENT[code] = Number(digits);
}

const formats = new Map(); // by language, currency and decimals: making one is dear

/** Digits of the minor unit of an ISO 4217 currency: 2 for TWD, 0 for JPY. */
export function exponent(currency) {
  return EXPONENT[currency] ?? 2;
}

/** Write an amount in minor units; a whole amount has no decimals (`NT$1,999`). */
export function money(minor, currency, language) {
  const digits = exponent(currency);
  const scale = 10 ** digits;
  const shown = minor % scale === 0 ? 0 : digits;
  const name = `${language} ${currency} ${shown}`;
  if (!formats.has(name)) formats.set(name, formatOf(currency, language, shown, digits));
  return formats.get(name).format(minor / scale);
}

function formatOf(currency, language, shown, digits) {
  // Hong Kong's Chinese names every dollar (NT$, HK$, US$); Taiwan's writes a bare "$".
  const locale = language.startsWith("zh") ? "zh-Hant-HK" : language;
  return new Intl.NumberFormat(locale, {
    style: "currency",
    currency,
    minimumFractionDigits: shown,
    maximumFractionDigits: digits,
  });
}

/** Read what a person typed ("1,999.5") as minor units; null when it is not an exact amount. */
export function minorUnits(text, currency) {
  const typed = text.trim();
  // A comma only between thousands: "12,50" is twelve and a half to many, never 1,250.
  const plain = /^\d{1,3}(?:,\d{3})+(?:\.\d+)?$/.test(typed) ? typed.replaceAll(",", "") : typed;
  const match = /^(\d+)(?:\.(\d+))?$/.exec(plain);
  const digits = exponent(currency);
  if (!match || (match[2] ?? "").length > digits) return null;
  const minor = Number(match[1] + (match[2] ?? "").padEnd(digits, "0"));
  return Number.isSafeInteger(minor) ? minor : null;
}
