// The page put together: what a change redraws, the keys, the address, the theme.

const at = (name) => document.getElementById(name);

function changed() {
  sortShown(at("sort").value);
  listBox().scrollTop = 0;
  drawList(pick);
  drawFacets(changed);
  drawActive(changed);
  drawCharts();
  drawMap();
  if (current >= 0 && shown.includes(current)) scrollToPlace(shown.indexOf(current));
  drawDetail(step);
}

function pick(row) {
  current = row;
  const {id} = table.rows[row];
  history.replaceState(null, "", id ? `#${id}` : location.pathname + location.search);
  drawRows(pick);
  drawDetail(step);
}

function step(by) {
  if (!shown.length) return;
  const place = shown.indexOf(current);
  const next = place < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, place + by));
  scrollToPlace(next);
  pick(shown[next]);
}

function addressed() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // an address that was cut short
  }
}

function followAddress() {
  const row = table.places.get(addressed());
  if (row === undefined) return;
  pick(row);
  if (shown.includes(row)) {
    listBox().scrollTop = shown.indexOf(row) * ROW_HIGH - listBox().clientHeight / 3;
    drawRows(pick);
  }
}

function clearAll() {
  for (const filter of dimensions) if (filter.active) clear(filter);
  at("search").value = "";
  changed();
}

function setUpSearch() {
  let timer;
  at("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      table.search.chosen = at("search").value;
      refresh(table.search);
      changed();
    }, 120);
  });
  const orders = [
    ["", "as written"],
    ...table.numbers.flatMap(({name}) => [
      [`${name} down`, `${title(name)}, highest first`],
      [`${name} up`, `${title(name)}, lowest first`],
    ]),
  ];
  at("sort").append(...orders.map(([value, text]) => element("option", {value}, text)));
  at("sort").addEventListener("change", changed);
}

const KEYS = {
  j: () => step(1),
  ArrowDown: () => step(1),
  k: () => step(-1),
  ArrowUp: () => step(-1),
  g: () => step(-Infinity),
  G: () => step(Infinity),
  PageDown: () => step(10),
  PageUp: () => step(-10),
  "/": () => at("search").focus(),
  c: clearAll,
  m: toggleCharts,
  i: () => at("about").showModal(),
  t: nextTheme,
  "?": () => at("help").showModal(),
};

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input[type=search], select")) {
      if (event.key !== "Escape" && (event.key !== "Enter" || event.target !== at("search"))) return;
      event.preventDefault(); // a browser would empty the field, without a word to the filter
      listBox().focus();
      return;
    }
    if (at("detail").contains(event.target) && /^(Arrow|Page)/.test(event.key)) return; // it scrolls
    if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });
  for (const [name, action] of [
    ["about", KEYS.i],
    ["help", KEYS["?"]],
    ["theme", nextTheme],
    ["charts", toggleCharts],
  ])
    at(`${name}-button`).addEventListener("click", action);
  at("filters-button").addEventListener("click", () => document.body.classList.toggle("with-facets"));
  addEventListener("hashchange", followAddress);
  addEventListener("resize", () => {
    drawCharts();
    drawMap();
  });
}

function toggleCharts() {
  at("charts").hidden = !at("charts").hidden;
  drawCharts();
  drawMap();
}

function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    /* a page from a file may have no storage */
  }
  return null;
}

function nextTheme() {
  const themes = ["system", "light", "dark"],
    next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3];
  document.documentElement.dataset.theme = next;
  at("theme-button").textContent = `Theme: ${next}`;
  remembered("ratchet-theme", next);
}

function setUpAbout({facts}) {
  const name = `${facts.label} · ${facts.stage}/${facts.fingerprint.slice(0, 12)}`;
  document.title = visible(`${name} — Ratchet`);
  at("title").textContent = visible(facts.label);
  const kept = table.rows.filter((row) => row.outcome === "kept").length;
  at("subtitle").textContent = visible(
    `${facts.stage}/${facts.fingerprint.slice(0, 12)} · ${facts.created.slice(0, 10)}` +
      (kept < facts.rows ? ` · ${number(kept)} of ${number(facts.rows)} rows on this page` : ""),
  );
  const inputs = Object.entries(facts.inputs).flatMap(([input, names]) =>
    [names].flat().map((one, at) => [input, `${[facts.input_stages[input]].flat()[at]}/${one}`]),
  );
  const lines = (pairs) =>
    element(
      "table",
      {class: "facts"},
      element(
        "tbody",
        {},
        ...pairs.map(([left, right]) =>
          element(
            "tr",
            {},
            element("th", {scope: "row"}, left),
            element("td", {}, typeof right === "number" ? number(right) : String(right)),
          ),
        ),
      ),
    );
  const section = (head, pairs) => (pairs.length ? [element("h2", {}, head), lines(pairs)] : []);
  at("about-body").append(
    element("h2", {}, "This data set"),
    lines([
      ["artifact", facts.uri],
      ["stage", `${facts.stage}, version ${facts.version}`],
      ["made", facts.created],
      ["on", facts.device],
      ["code", facts.code_version],
    ]),
    ...section("Rows in, kept and dropped", Object.entries(facts.counts)),
    ...section("Made from", inputs),
    ...section("Metrics", Object.entries(facts.metrics)),
    element("h2", {}, "Recipe"),
    element("pre", {}, JSON.stringify(facts.recipe, null, 2)),
  );
}

async function start() {
  document.documentElement.dataset.theme = remembered("ratchet-theme") ?? "system";
  table = makeTable(await readData());
  setUpFilters();
  setUpAbout(table);
  setUpSearch();
  setUpFacets(changed);
  setUpCharts(changed);
  setUpMap(changed);
  setUpList(pick);
  setUpKeys();
  sortShown("");
  current = shown[0] ?? -1;
  changed();
  if (location.hash) followAddress();
  document.body.classList.add("ready");
}

start().catch((error) => {
  at("title").textContent = "This page cannot be shown";
  at("subtitle").textContent = `${error.message ?? error}: make it again with \`ratchet data show --html\``;
  throw error;
});
