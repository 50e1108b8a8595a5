// The list: only the rows on the screen are in the document.

const ROW_HIGH = 76;
let current = -1; // place of the chosen row in the table

const listBox = () => document.getElementById("list");

function setUpList(pick) {
  const list = listBox();
  let waiting = false;
  list.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawRows(pick);
    });
  });
  new ResizeObserver(() => drawRows(pick)).observe(list);
}

function drawList(pick) {
  document.getElementById("rows").style.height = `${shown.length * ROW_HIGH}px`;
  document.getElementById("count").textContent =
    shown.length === table.rows.length
      ? plural(shown.length, "row")
      : `${number(shown.length)} of ${plural(table.rows.length, "row")}`;
  listBox().classList.toggle("nothing", !shown.length);
  drawRows(pick);
}

function drawRows(pick) {
  const list = listBox(),
    first = Math.max(0, Math.floor(list.scrollTop / ROW_HIGH) - 4);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HIGH) + 4);
  const lines = [];
  for (let place = first; place < last; place++) lines.push(rowLine(shown[place], place, pick));
  document.getElementById("rows").replaceChildren(...lines);
  markFound();
}

function rowLine(at, place, pick) {
  const row = table.rows[at],
    [asked, said] = summary(row);
  return element(
    "div",
    {
      class: `row${at === current ? " chosen" : ""}`,
      role: "option",
      id: `row-${at}`,
      "data-id": row.id || false,
      "aria-selected": at === current ? "true" : "false",
      style: `top:${place * ROW_HIGH}px; --mark: ${markOf(row)}`,
      onclick: () => pick(at),
    },
    element("div", {class: "asked"}, oneLine(asked)),
    element("div", {class: "said"}, oneLine(said) || "\u00a0"),
    element("div", {class: "notes"}, ...badges(row, false), ...noteNumbers(row)),
  );
}

const oneLine = (text) =>
  String(text ?? "")
    .slice(0, 400)
    .replace(/\s+/g, " ")
    .trim();
const markOf = (row) =>
  table.facet.family && row.family
    ? `var(--family-${table.facet.family.values.indexOf(row.family) % 8})`
    : "var(--faint)";

function badges(row, all) {
  const made = [];
  if (row.outcome !== "kept") made.push(element("span", {class: "badge bad"}, row.outcome));
  if (row.passed != null)
    made.push(element("span", {class: row.passed ? "badge good" : "badge bad"}, row.passed ? "✓ passed" : "✗ failed"));
  if (row.unsafe) made.push(element("span", {class: "badge bad"}, "unsafe"));
  for (const name of ["family", "topic", "judge", ...(all ? ["task", "answer_format", "aid", "half"] : [])])
    if (row[name]) made.push(element("span", {class: "badge"}, row[name]));
  return made;
}

function noteNumbers(row) {
  const name = ["reward", "reward_gap", "helpfulness"].find((one) => typeof row[one] === "number");
  const length = row.words ?? row.chosen_words;
  return [
    element("span", {class: "push"}),
    name ? meter(name, row[name], true) : null,
    length != null ? element("span", {class: "length"}, plural(length, "word")) : null,
  ];
}

// A bar for a number: between 0 and 4 for an attribute, else within what the column holds.
function meter(name, value, small) {
  const column = table.number[name] ?? {low: value, high: value};
  const [low, high] =
    ATTRIBUTES.includes(name) && column.low >= 0 && column.high <= 4
      ? [0, 4]
      : [Math.min(0, column.low), Math.max(0, column.high)];
  const share = (one) => (100 * (one - low)) / (high - low || 1),
    zero = share(0),
    at = share(value);
  return element(
    "span",
    {class: `meter${small ? " small" : ""}`, title: `${words(name)} ${number(value)}`},
    element("i", {
      class: value < 0 ? "below" : "",
      style: `left:${Math.min(zero, at)}%; width:${Math.max(1, Math.abs(at - zero))}%`,
    }),
  );
}

function markFound() {
  mark(terms, document.getElementById("rows"), document.getElementById("detail"));
}

function scrollToPlace(place) {
  const list = listBox(),
    top = place * ROW_HIGH;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW_HIGH > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HIGH - list.clientHeight;
}
