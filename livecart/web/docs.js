// The page of the API, served at /docs: every call, message, object and code, and a search.
//
// Draws /openapi.json and /asyncapi.json as this server gives them, so it cannot be behind them.
// Owns what is shown in which order, and the search; how a schema looks is docs-schema.js's.

import { at, h } from "./dom.js";
import { fields, nameOf, objectLink, parameters } from "./docs-schema.js";

const entries = []; // what the search goes over: { element, section, words }

async function load(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
  return response.json();
}

/** One line that opens: its id can be linked to, its words are searched. */
function entry(id, head, make, words) {
  const element = h("details", { class: "entry", id }, h("summary", {}, ...head));
  let drawn = false;
  const draw = () => {
    if (!drawn) element.append(h("div", {}, ...make()));
    drawn = true;
  };
  element.addEventListener("toggle", () => element.open && draw());
  entries.push({ element, words: words.toLowerCase() });
  return element;
}

function section(id, title, ...children) {
  return h("section", { id, "aria-label": title }, h("h2", {}, title), ...children);
}

// --- HTTP ---

function rolesOf(operation) {
  const roles = (operation.security ?? []).flatMap((demand) => demand.token ?? []);
  if ((operation.security ?? []).some((demand) => demand.link)) return "whoever has the link";
  return roles.length ? roles.join(", ") : "anyone";
}

/** A body or an answer: its fields, beneath the name of the object where it has one. */
function content(title, media, schemas) {
  const parts = [];
  for (const [type, { schema }] of Object.entries(media ?? {})) {
    const name = schema.$ref ? nameOf(schema.$ref) : null;
    const head = name ? objectLink(name) : type;
    parts.push(h("h4", {}, title, " ", h("code", {}, head)));
    parts.push(fields(name ? schemas[name] : schema));
  }
  return parts;
}

/** One row a code: the description of a status has them with semicolons between. */
function refusalRows(status, description) {
  return description.split(/; (?=\x60)/).map((part) => {
    const [, code, words] = /^`(\w+)`: (.*)$/.exec(part) ?? [null, "", part];
    return h("tr", {}, h("td", {}, status), h("td", {}, code), h("td", { class: "dim" }, words));
  });
}

function drawCall(operation, schemas) {
  const description = operation.description.replace(/ ?Roles: [^.]*\.$/, "");
  const made = [h("p", {}, description), h("p", {}, "Who: ", rolesOf(operation))];
  if (operation.parameters) made.push(h("h4", {}, "Parameters"), parameters(operation.parameters));
  made.push(...content("Body", operation.requestBody?.content, schemas));
  const rows = [];
  for (const [status, answer] of Object.entries(operation.responses)) {
    if (Number(status) >= 400) rows.push(...refusalRows(status, answer.description));
    else if (answer.content) made.push(...content(status, answer.content, schemas));
    else made.push(h("h4", {}, status, ", and nothing in it"));
  }
  made.push(h("h4", {}, "Refusals"));
  made.push(h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, ...rows))));
  return made;
}

function drawHttp(spec) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      const head = [
        h("span", { class: `method ${method}` }, method.toUpperCase()),
        h("code", {}, path),
        h("span", { class: "what" }, operation.summary),
      ];
      const words = `${method} ${path} ${JSON.stringify(operation)}`;
      const id = `${method}-${path.replace(/[^a-z0-9]+/gi, "-")}`;
      groups.get(group).push(entry(id, head, () => drawCall(operation, spec.components.schemas), words));
    }
  }
  const names = [...groups.keys()].sort();
  const parts = names.flatMap((name) => {
    return [h("div", { id: `http-${name}` }, h("h3", {}, name), ...groups.get(name))];
  });
  return [section("http", "HTTP calls", ...parts), names.map((name) => [`http-${name}`, name])];
}

// --- WebSocket ---

function drawMessages(spec) {
  const { messages, schemas } = spec.components;
  const operations = Object.values(spec.operations);
  const replies = new Map();
  const told = new Set(spec.operations.event.messages.map((one) => nameOf(one.$ref)));
  for (const operation of operations.filter((one) => one.action === "receive")) {
    const answers = (operation.reply?.messages ?? []).map((one) => nameOf(one.$ref));
    for (const one of operation.messages) replies.set(nameOf(one.$ref), [answers, operation.summary]);
  }
  const make = (key) => {
    const schema = schemas[nameOf(messages[key].payload.$ref)];
    const [answers, summary] = replies.get(key) ?? [[], undefined];
    const body = () => [
      schema.description ? h("p", {}, schema.description) : null,
      summary ? h("p", {}, summary) : null,
      fields(schema),
      answers.length
        ? h("p", {}, "Answered with: ", answers.map((name) => messages[name].name).join(", "))
        : null,
    ].filter((part) => part !== null);
    const head = [h("code", {}, messages[key].name), h("span", { class: "what" }, summary ?? "")];
    return entry(key.replaceAll(".", "-"), head, body, `${key} ${JSON.stringify(schema)}`);
  };
  const commands = [...replies.keys()].map(make);
  const events = [...told].map(make);
  return [
    section("commands", "WebSocket: commands", h("p", {}, spec.info.description),
      h("p", {}, h("code", {}, spec.channels.stream.address)), ...commands),
    section("events", "WebSocket: events and answers", ...events),
  ];
}

// --- objects and codes ---

function drawObjects(http, socket) {
  const all = { ...socket.components.schemas, ...http.components.schemas };
  const made = Object.keys(all).sort().map((name) =>
    entry(`object-${name}`, [h("code", {}, name)], () => [
      all[name].description ? h("p", {}, all[name].description) : null,
      fields(all[name]),
    ].filter((part) => part !== null), `${name} ${JSON.stringify(all[name])}`));
  return section("objects", "Objects", ...made);
}

function drawCodes(spec) {
  const closes = Object.entries(spec["x-close-codes"]).map(([code, name]) =>
    h("tr", {}, h("td", {}, code), h("td", {}, name.replaceAll("_", " "))));
  const part = entry("close-codes", [h("code", {}, "close codes of the WebSocket")],
    () => [h("table", {}, h("tbody", {}, ...closes))], JSON.stringify(spec["x-close-codes"]));
  const refusals = entry("reject-codes", [h("code", {}, "codes of refusals")],
    () => [h("p", {}, h("code", {}, spec["x-reject-codes"].join(", "))),
      h("p", {}, "As ", objectLink("Problem"), " by HTTP, as ", objectLink("Reject"),
        " by WebSocket.")], spec["x-reject-codes"].join(" "));
  return section("codes", "Codes", refusals, part);
}

// --- the page ---

function search() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const one of entries) {
    const fits = words.every((word) => one.words.includes(word));
    one.element.hidden = !fits;
    count += fits;
  }
  for (const part of document.querySelectorAll("main section, main section > div")) {
    if (part.querySelector(".entry")) part.hidden = !part.querySelector(".entry:not([hidden])");
  }
  at("found").textContent = words.length ? `${count} of ${entries.length}` : "";
}

/** Open what the address names, wherever a search had hidden it. */
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.hidden) {
    at("search").value = "";
    search();
  }
  if (target.matches("details")) target.open = true;
  target.scrollIntoView();
}

function contents(groups) {
  const item = ([id, name]) => h("li", {}, h("a", { href: `#${id}` }, name));
  at("nav").append(...groups.map(([id, name, inner]) => h("ul", {},
    h("li", { class: "group" }, h("a", { href: `#${id}` }, name)), ...inner.map(item))));
}

async function start() {
  const [http, socket] = await Promise.all([load("/openapi.json"), load("/asyncapi.json")]);
  at("about").textContent = http.info.description;
  const [calls, groups] = drawHttp(http);
  at("main").append(calls, ...drawMessages(socket), drawObjects(http, socket), drawCodes(socket));
  contents([
    ["http", "HTTP calls", groups],
    ["commands", "Commands", []],
    ["events", "Events", []],
    ["objects", "Objects", []],
    ["codes", "Codes", []],
  ]);
  at("contents").open = matchMedia("(min-width: 56rem)").matches;
  at("search").addEventListener("input", search);
  addEventListener("hashchange", follow);
  follow();
}

start().catch((error) => {
  at("found").textContent = `The descriptions could not be read: ${error.message}`;
});
