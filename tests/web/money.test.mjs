// What a person types as an amount, and what is none.

import assert from "node:assert/strict";
import { test } from "node:test";

import { pure } from "./pure.mjs";

const { minorUnits } = await pure("money.js");

test("a comma is between thousands and nowhere else", () => {
  const read = {
    "12,50": null, "1,2,3": null, "1,9999": null, ",500": null, "1,999,": null, "12.505": null,
    "1,999": 199_900, "1,999.5": 199_950, " 12.50 ": 1_250, "1234567": 123_456_700, "1,234,567": 123_456_700,
  };
  for (const [typed, minor] of Object.entries(read)) assert.equal(minorUnits(typed, "TWD"), minor, typed);
  assert.equal(minorUnits("1,500", "JPY"), 1_500);
  assert.equal(minorUnits("1.5", "JPY"), null);
});
