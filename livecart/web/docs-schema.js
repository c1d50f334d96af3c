// Draws JSON Schema as tables of fields for the page of the API. Pure: schema in, elements out.
//
// Knows what msgspec writes, and no more: `$ref`, `anyOf` with null, arrays, enums and bounds.

import { h } from "./dom.js";

/** The name that a `$ref` leads to. */
export function nameOf(ref) {
  return ref.slice(ref.lastIndexOf("/") + 1);
}

/** A link to an object's own entry. */
export function objectLink(name) {
  return h("a", { href: `#object-${name}` }, name);
}

/** Put commas, or what else, between elements. */
function joined(parts, between) {
  return parts.flatMap((part, index) => (index ? [between, part] : [part]));
}

/** What kind of value a schema takes: text and links, to be spread into an element. */
export function kindOf(schema) {
  if (schema.$ref) return [objectLink(nameOf(schema.$ref))];
  const either = schema.anyOf ?? schema.oneOf;
  if (either) {
    const kinds = either.filter((kind) => kind.type !== "null");
    return joined(kinds.map((kind) => h("span", {}, ...kindOf(kind))), " or ");
  }
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) {
    const words = schema.enum.filter((word) => word !== null).map((word) => JSON.stringify(word));
    return [words.join(" | ")];
  }
  if (schema.type === "array") return ["list of ", ...kindOf(schema.items ?? {})];
  if (schema.type === "object" && schema.additionalProperties) {
    return ["map of ", ...kindOf(schema.additionalProperties)];
  }
  if (Array.isArray(schema.type)) return [schema.type.filter((one) => one !== "null").join(" or ")];
  return [schema.type ?? "anything"];
}

const BOUNDS = {
  minimum: (n) => `at least ${n}`,
  maximum: (n) => `at most ${n}`,
  exclusiveMinimum: (n) => `more than ${n}`,
  exclusiveMaximum: (n) => `less than ${n}`,
  minLength: (n) => `at least ${n} characters`,
  maxLength: (n) => `at most ${n} characters`,
  minItems: (n) => `at least ${n} items`,
  maxItems: (n) => `at most ${n} items`,
};

/** What a value must keep to, in words; the pattern only where nothing else says more. */
function boundsOf(schema) {
  const kinds = (schema.anyOf ?? []).filter((kind) => kind.type !== "null");
  const all = [schema, ...kinds, ...(schema.items ? [schema.items] : [])];
  const words = [];
  for (const one of all) {
    for (const [name, say] of Object.entries(BOUNDS)) {
      if (one[name] !== undefined) words.push(say(one[name].toLocaleString("en")));
    }
    if (one.description) words.unshift(one.description);
    if (one.pattern && !/\\x00/.test(one.pattern)) words.push(one.pattern);
  }
  if (schema.default !== undefined && schema.default !== null) {
    words.push(`default ${JSON.stringify(schema.default)}`);
  }
  return words.join("; ");
}

function row(name, schema, required) {
  return h(
    "tr", {},
    h("td", {}, name, required ? h("span", { class: "must" }, " required") : null),
    h("td", {}, ...kindOf(schema)),
    h("td", { class: "dim" }, boundsOf(schema)),
  );
}

function table(rows) {
  const head = ["Field", "Kind", "Bounds"].map((name) => h("th", { scope: "col" }, name));
  return h(
    "div", { class: "scroll" },
    h("table", { class: "fields" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)),
  );
}

/** The fields of an object, or what else a schema is. */
export function fields(schema) {
  const names = Object.entries(schema.properties ?? {});
  if (names.length === 0) return h("p", {}, h("code", {}, ...kindOf(schema)));
  const required = new Set(schema.required ?? []);
  return table(names.map(([name, field]) => row(name, field, required.has(name))));
}

/** Parameters of a path, a query or headers, as OpenAPI has them. */
export function parameters(list) {
  return table(
    list.map((one) => {
      const description = one.description ?? one.schema.description;
      return row(`${one.name} (${one.in})`, { ...one.schema, description }, one.required);
    }),
  );
}
