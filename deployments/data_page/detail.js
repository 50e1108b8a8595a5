// The chosen row, whole.

function drawDetail(step) {
  const box = document.getElementById("detail");
  box.scrollTop = 0;
  if (current < 0) {
    box.replaceChildren(element("p", {class: "hint"}, "Choose a row to read it whole."));
    return;
  }
  const row = table.rows[current],
    place = shown.indexOf(current);
  box.replaceChildren(
    ...[
      element(
        "div",
        {class: "head"},
        element(
          "button",
          {title: "row before (k)", "aria-label": "row before", disabled: place <= 0, onclick: () => step(-1)},
          "↑",
        ),
        element(
          "button",
          {
            title: "next row (j)",
            "aria-label": "next row",
            disabled: place < 0 || place >= shown.length - 1,
            onclick: () => step(1),
          },
          "↓",
        ),
        element(
          "span",
          {class: "place"},
          place < 0 ? "not among the rows that pass the filters" : `${number(place + 1)} of ${number(shown.length)}`,
        ),
        ...badges(row, true),
      ),
      row.outcome === "kept"
        ? null
        : element(
            "p",
            {class: "why"},
            element("b", {}, `Left out: ${words(row.outcome.slice(9))}. `),
            row.detail ?? "",
          ),
      ...said(row),
      scores(row),
      links(row),
      factsOf(row),
    ].filter(Boolean),
  );
  markFound();
}

function said(row) {
  const parts = [turns(conversation(row))];
  if (answerOf(row) != null) parts.push(turn({role: "assistant", content: answerOf(row)}, row.responder));
  if (row.chosen || row.rejected)
    parts.push(element("div", {class: "sides"}, side("chosen", row, "good"), side("rejected", row, "bad")));
  if (row.text) parts.push(element("div", {class: "turn"}, prose(row.text)));
  for (const name of ["keyword", "topic"])
    if (!conversation(row).length && !row.text && row[name]) parts.push(element("p", {class: "large"}, row[name]));
  return parts;
}

const turns = (messages) => element("div", {class: "turns"}, ...messages.map((message) => turn(message)));

function turn(message, note) {
  const role = String(message.role ?? "");
  const kind = ["system", "user", "assistant"].includes(role) ? role : "other";
  return element(
    "section",
    {class: `turn ${kind}`},
    element("h3", {}, role, note ? element("small", {}, note) : null),
    prose(message.content ?? ""),
  );
}

// One answer of a pair, without the prompt's turns where they are repeated.
function side(name, row, kind) {
  const asked = conversation(row),
    all = row[name] ?? [];
  const same = all.length > asked.length && asked.every((message, at) => message.content === all[at].content);
  const reward = row[`${name}_reward`];
  return element(
    "div",
    {class: `side ${kind}`},
    element("h3", {}, name, element("small", {}, plural(row[`${name}_words`] ?? 0, "word"))),
    reward == null
      ? null
      : element("div", {class: "score"}, meter(`${name}_reward`, reward), element("b", {}, number(reward))),
    turns(same ? all.slice(asked.length) : all),
  );
}

function scores(row) {
  const names = [...ATTRIBUTES, "reward", "baseline_reward", "reward_gap"].filter(
    (name) => typeof row[name] === "number",
  );
  return names.length
    ? element(
        "section",
        {class: "scores"},
        ...names.map((name) =>
          element(
            "div",
            {class: "score", title: table.facts.fields[name] ?? false},
            element("span", {}, words(name)),
            meter(name, row[name]),
            element("b", {}, number(row[name])),
          ),
        ),
      )
    : null;
}

function links(row) {
  if (!row.id) return null;
  const command = `ratchet data trace ${row.id}`;
  const parents = (row.parents ?? []).map((parent) =>
    table.places.has(parent)
      ? element("a", {href: `#${parent}`, class: "id"}, parent)
      : element("span", {class: "id"}, parent),
  );
  return element(
    "section",
    {class: "links"},
    element(
      "div",
      {},
      element("code", {id: "trace"}, command),
      element("button", {class: "copy", onclick: (event) => copy(command, event.target)}, "copy"),
    ),
    parents.length ? element("div", {}, "made from ", ...parents.flatMap((link) => [link, " "])) : null,
  );
}

const TOLD = new Set([
  ...CONVERSATIONS,
  ...ATTRIBUTES,
  "reward",
  "baseline_reward",
  "reward_gap",
  "response",
  "answer",
  "text",
  "parents",
  "outcome",
  "reason",
  "detail",
  "row_id",
  "words",
  "chosen_words",
  "rejected_words",
]);

function factsOf(row) {
  const names = Object.keys(row).filter((name) => !TOLD.has(name));
  return element(
    "table",
    {class: "facts"},
    element(
      "tbody",
      {},
      ...names.map((name) =>
        element(
          "tr",
          {},
          element("th", {title: table.facts.fields[name] ?? false, scope: "row"}, words(name)),
          element("td", {}, factText(row[name])),
        ),
      ),
    ),
  );
}

function factText(value) {
  if (value && typeof value === "object" && "payload" in value)
    return element("pre", {}, `${value.kind} (version ${value.version})\n${pretty(value.payload)}`);
  if (typeof value === "string") return /^[[{]/.test(value) ? element("pre", {}, pretty(value)) : value;
  if (typeof value === "number") return number(value);
  return typeof value === "object" ? element("pre", {}, JSON.stringify(value, null, 1)) : String(value);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 1);
  } catch {
    return text;
  }
}
