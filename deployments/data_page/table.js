// The rows, and their columns as typed arrays: what filters and charts go over twenty thousand times.

const CONVERSATIONS = ["messages", "prompt", "chosen", "rejected"];
const SPECIAL = new Set([
  ...CONVERSATIONS,
  "id",
  "row_id",
  "parents",
  "prompt_id",
  "item_id",
  "response",
  "answer",
  "text",
  "details",
  "detail",
  "reason",
  "keyword",
]);
const FACETS = [
  "outcome",
  "family",
  "topic",
  "macro_topic",
  "task",
  "answer_format",
  "judge",
  "verdict",
  "source",
  "aid",
  "responder",
  "finish_reason",
  "side",
  "unsafe",
  "teaches",
  "half",
  "key",
  "field",
  "origin",
  "check",
  "synthetic",
  "licence",
  "generator",
];
const NUMBERS = [
  "words",
  "chosen_words",
  "rejected_words",
  "turns",
  "reward",
  "reward_gap",
  "chosen_reward",
  "rejected_reward",
  "helpfulness",
  "correctness",
  "coherence",
  "complexity",
  "verbosity",
];
const ATTRIBUTES = NUMBERS.slice(-5);
const TITLES = {
  outcome: "kept or dropped",
  check: "checked by",
  key: "cluster",
  words: "length in words",
  chosen_words: "words, chosen",
  rejected_words: "words, rejected",
  macro_topic: "topic above",
  reward_gap: "reward gap",
};
const MAPS = [
  ["family", "topic"],
  ["macro_topic", "topic"],
  ["family", "key"],
  ["family", "task"],
  ["field", "origin"],
  ["family", "judge"],
  ["family", "responder"],
  ["source", "licence"],
  ["family", "source"],
  ["source", "generator"],
];
const MOST_VALUES = 5000; // of a facet; a column with more is no kind of thing

const title = (name) => TITLES[name] ?? words(name);

// The data block: gzipped lines of JSON, the artifact's facts first.
async function readData() {
  const raw = atob(document.getElementById("data").textContent.trim());
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  const [facts, ...rows] = JSON.parse(`[${text.trimEnd().replaceAll("\n", ",")}]`);
  return {facts, rows};
}

// What a facet says of a row; "" for nothing.
function facetValue(row, name) {
  if (name === "verdict") return row.passed == null ? "" : row.passed ? "passed" : "failed";
  if (name === "check") return row.verifier?.kind ?? "";
  const value = row[name];
  return value == null ? "" : String(value);
}

function facetColumn(rows, name) {
  const codes = new Int32Array(rows.length),
    known = new Map();
  for (let at = 0; at < rows.length; at++) {
    const value = facetValue(rows[at], name);
    let code = known.get(value);
    if (code === undefined) known.set(value, (code = known.size));
    codes[at] = code;
  }
  return {name, codes, values: [...known.keys()]};
}

function numberColumn(rows, name) {
  const values = new Float64Array(rows.length);
  let count = 0,
    low = Infinity,
    high = -Infinity;
  for (let at = 0; at < rows.length; at++) {
    const value = rows[at][name];
    if (typeof value !== "number") {
      values[at] = NaN;
      continue;
    }
    values[at] = value;
    count++;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return {name, values, count, low, high};
}

// Names of the columns that our lists do not know: a later schema's.
function otherColumns(rows) {
  const seen = new Map();
  for (const row of rows) for (const name in row) if (!seen.has(name)) seen.set(name, typeof row[name]);
  const known = new Set([...FACETS, ...NUMBERS, ...SPECIAL, "passed", "verifier"]);
  const of = (kinds) =>
    [...seen].filter(([name, kind]) => !known.has(name) && kinds.includes(kind)).map(([name]) => name);
  return {texts: of(["string", "boolean"]), numbers: of(["number"])};
}

function makeTable({facts, rows}) {
  const more = otherColumns(rows);
  const facets = [...FACETS, ...more.texts]
    .map((name) => facetColumn(rows, name))
    .filter(
      ({name, values}) =>
        values.length > 1 && values.length <= (FACETS.includes(name) ? MOST_VALUES : Math.min(200, rows.length / 2)),
    );
  const numbers = [...NUMBERS, ...more.numbers].map((name) => numberColumn(rows, name)).filter(({count}) => count);
  const places = new Map();
  rows.forEach((row, at) => {
    if (row.id && !places.has(row.id)) places.set(row.id, at);
  });
  const of = (list) => Object.fromEntries(list.map((column) => [column.name, column]));
  return {facts, rows, facets, numbers, places, facet: of(facets), number: of(numbers), texts: null};
}

// Everything that a row says, in lower case, for the search.
function searchText(row) {
  const parts = [];
  const add = (value) => {
    if (typeof value === "string") parts.push(value);
    else if (Array.isArray(value)) value.forEach(add);
    else if (value && typeof value === "object") for (const name in value) if (name !== "role") add(value[name]);
  };
  add(row);
  return parts.join("\n").toLowerCase();
}

const conversation = (row) => (row.messages ?? row.prompt ?? []).filter((message) => message);
const answerOf = (row) => row.response ?? row.answer;

// Two lines for the list: what is asked, and what is said to it.
function summary(row) {
  const turns = conversation(row);
  const asked = turns.findLast?.((turn) => turn.role === "user" && turn.content) ?? turns[0];
  const first = turns.find((turn) => turn.role === "user") ?? asked;
  if (row.chosen) return [first?.content ?? "", row.chosen.at(-1)?.content ?? ""];
  if (answerOf(row) != null) return [asked?.content ?? "", answerOf(row)];
  if (turns.length)
    return [first?.content ?? "", turns.length > 1 ? (turns[turns.indexOf(first) + 1]?.content ?? "") : ""];
  return [row.text ?? row.keyword ?? row.topic ?? row.id ?? "", row.macro_topic ?? row.field ?? ""];
}
