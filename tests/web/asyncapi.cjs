// Judges an AsyncAPI document, given on standard input, by AsyncAPI's own parser: what is wrong with
// it is one line each on standard output. Status 0: read, whatever was found. Run by test_specs.py.

const { Parser } = require("@asyncapi/parser");

const ERROR = 0; // severities of the parser

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const parser = new Parser();
  const { document, diagnostics } = await parser.parse(Buffer.concat(chunks).toString());
  for (const one of diagnostics.filter((found) => found.severity === ERROR)) {
    console.log(`${one.path.join(".")}: ${one.message}`);
  }
  if (document === undefined && diagnostics.length === 0) console.log("no document");
  else if (document !== undefined) console.error(`${document.operations().all().length} operations`);
}

main();
