// Which rows pass. Every filter notes the rows that fail it, so that each facet and chart can count the rows that pass
// all the others: what choosing one of its values would leave.

const dimensions = []; // {kind: "facet" | "range" | "search", column, chosen, fails}
let table,
  failures,
  shown = [],
  terms = [];

function setUpFilters() {
  failures = new Uint8Array(table.rows.length);
  for (const column of table.facets) dimensions.push((column.filter = newFilter("facet", column, new Set())));
  for (const column of table.numbers) dimensions.push((column.filter = newFilter("range", column, null)));
  dimensions.push((table.search = newFilter("search", null, "")));
}

const newFilter = (kind, column, chosen) => ({
  kind,
  column,
  chosen,
  fails: new Uint8Array(table.rows.length),
  active: false,
});

function refresh(filter) {
  const {kind, column, fails} = filter,
    size = table.rows.length;
  if (kind === "facet") {
    filter.active = filter.chosen.size > 0;
    const passes = column.values.map((value) => filter.chosen.has(value));
    for (let at = 0; at < size; at++) fails[at] = filter.active && !passes[column.codes[at]] ? 1 : 0;
  } else if (kind === "range") {
    filter.active = filter.chosen !== null;
    const [low, high] = filter.chosen ?? [0, 0];
    for (let at = 0; at < size; at++)
      fails[at] = filter.active && !(column.values[at] >= low && column.values[at] <= high) ? 1 : 0;
  } else refreshSearch(filter);
  failures.fill(0);
  for (const one of dimensions) if (one.active) for (let at = 0; at < size; at++) failures[at] += one.fails[at];
}

// Words and "phrases" that a row must hold, and -words that it must not.
function refreshSearch(filter) {
  const parts = [...filter.chosen.toLowerCase().matchAll(/(-?)(?:"([^"]+)"?|(\S+))/g)]
    .map(([, minus, phrase, word]) => ({without: minus === "-", text: phrase ?? word}))
    .filter(({text}) => text !== "-");
  filter.active = parts.length > 0;
  terms = parts.filter((part) => !part.without).map((part) => part.text);
  if (filter.active) table.texts ??= table.rows.map(searchText);
  for (let at = 0; at < table.rows.length; at++)
    filter.fails[at] =
      filter.active && !parts.every((part) => table.texts[at].includes(part.text) !== part.without) ? 1 : 0;
}

// Whether a row passes all filters but these.
function passesBut(at, ...filters) {
  let failing = failures[at];
  for (const filter of filters) if (filter.active) failing -= filter.fails[at];
  return failing === 0;
}

function countValues(column) {
  const counts = new Int32Array(column.values.length);
  for (let at = 0; at < table.rows.length; at++) if (passesBut(at, column.filter)) counts[column.codes[at]]++;
  return counts;
}

function sortShown(order) {
  shown = [];
  for (let at = 0; at < table.rows.length; at++) if (!failures[at]) shown.push(at);
  const [name, way] = order.split(" "),
    column = table.number[name];
  if (!column) return;
  const sign = way === "down" ? -1 : 1;
  // rows without it come last
  const key = (at) => (Number.isNaN(column.values[at]) ? Infinity : column.values[at] * sign);
  shown.sort((left, right) => key(left) - key(right) || left - right);
}

const anyActive = () => dimensions.some((filter) => filter.active);

function clear(filter) {
  if (filter.kind === "facet") filter.chosen.clear();
  else filter.chosen = filter.kind === "range" ? null : "";
  refresh(filter);
}

function toggle(column, value) {
  const {chosen} = column.filter;
  if (!chosen.delete(value)) chosen.add(value);
  refresh(column.filter);
}
