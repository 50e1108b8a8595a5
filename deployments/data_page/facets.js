// The filters at the left: a list of values for each column that sorts rows into kinds.

const FEW = 8; // values that a facet shows at first

function setUpFacets(changed) {
  const aside = document.getElementById("facets");
  for (const column of table.facets) {
    const values = element("ul"),
      more = element("button", {
        class: "more",
        onclick: () => {
          column.open = !column.open;
          drawFacet(column, changed);
        },
      });
    const query = element("input", {
      class: "narrowing",
      type: "search",
      placeholder: "find …",
      "aria-label": `find in ${title(column.name)}`,
      oninput: () => drawFacet(column, changed),
    });
    column.box = element(
      "details",
      {open: true, class: "facet", "data-facet": column.name},
      element("summary", {title: table.facts.fields[column.name] ?? false}, title(column.name)),
      column.values.length > 3 * FEW ? query : null,
      values,
      column.values.length > FEW ? more : null,
    );
    Object.assign(column, {list: values, more, query});
    aside.append(column.box);
  }
}

function drawFacets(changed) {
  for (const column of table.facets) drawFacet(column, changed);
}

function drawFacet(column, changed) {
  const counts = countValues(column),
    {chosen} = column.filter,
    wanted = column.query.value.trim().toLowerCase();
  let order = column.values.map((_, code) => code).filter((code) => column.values[code].toLowerCase().includes(wanted));
  order.sort(
    (left, right) =>
      chosen.has(column.values[right]) - chosen.has(column.values[left]) ||
      counts[right] - counts[left] ||
      (column.values[left] < column.values[right] ? -1 : 1),
  );
  const kept = column.open || wanted ? order.slice(0, 300) : order.slice(0, FEW);
  const most = Math.max(1, ...kept.map((code) => counts[code]));
  column.list.replaceChildren(...kept.map((code) => valueLine(column, code, counts[code], most, changed)));
  column.more.textContent = column.open ? "fewer" : `${number(order.length - kept.length)} more`;
  column.more.hidden = !!wanted || order.length <= FEW;
}

function valueLine(column, code, count, most, changed) {
  const value = column.values[code],
    chosen = column.filter.chosen.has(value);
  const box = element("input", {
    type: "checkbox",
    onchange: () => {
      toggle(column, value);
      changed();
    },
  });
  box.checked = chosen;
  return element(
    "li",
    {class: `value${count ? "" : " empty"}`, title: value || "none", "data-value": value},
    element(
      "label",
      {},
      box,
      element("span", {class: "label"}, shownValue(column.name, value)),
      element("span", {class: "count"}, number(count)),
    ),
    element("i", {style: `width:${(100 * count) / most}%; ${colourOf(column.name, value)}`}),
  );
}

const shownValue = (name, value) => (value === "" ? "none" : name === "generator" ? value.slice(0, 12) : value);

// Families keep one colour in the whole page; so do kept and dropped, passed and failed.
function colourOf(name, value) {
  if (name === "family") return `background: var(--family-${table.facet.family.values.indexOf(value) % 8})`;
  if (value === "kept" || value === "passed") return "background: var(--good)";
  if (value === "failed" || value.startsWith("dropped")) return "background: var(--bad)";
  return "";
}

// What is chosen now, above the list, each with a cross.
function drawActive(changed) {
  const drop = (filter, text) =>
    element(
      "button",
      {
        class: "chip active",
        title: "remove this filter",
        onclick: () => {
          clear(filter);
          if (filter.kind === "search") document.getElementById("search").value = "";
          changed();
        },
      },
      text,
      element("b", {}, "×"),
    );
  const chips = dimensions
    .filter((filter) => filter.active)
    .map((filter) => {
      if (filter.kind === "search") return drop(filter, `“${filter.chosen}”`);
      const name = title(filter.column.name);
      if (filter.kind === "range") return drop(filter, `${name} ${filter.chosen.map(number).join(" to ")}`);
      const values = [...filter.chosen].map((value) => shownValue(filter.column.name, value));
      return drop(
        filter,
        `${name}: ${values.slice(0, 3).join(", ")}${values.length > 3 ? ` +${values.length - 3}` : ""}`,
      );
    });
  document.getElementById("active").replaceChildren(...chips);
}
