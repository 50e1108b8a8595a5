// Histograms: all rows behind, those that pass in front. Dragging keeps a range, a click takes it away.

const BINS = 44,
  HIGH = 86;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const charts = [];

function setUpCharts(changed) {
  const names = table.numbers.map(({name}) => name);
  const second = ["reward_gap", "reward", "rejected_words", "turns"].find((name) => names.includes(name)) ?? names[1];
  for (const [place, name] of [
    ["first", names[0]],
    ["second", second],
  ]) {
    const chooser = document.getElementById(`${place}-number`),
      plot = document.getElementById(`${place}-histogram`);
    const figure = plot.closest("figure");
    figure.hidden = !name;
    if (!name) continue;
    chooser.append(...names.map((one) => element("option", {value: one}, title(one))));
    chooser.value = name;
    const chart = {chooser, plot, facts: figure.querySelector(".facts")};
    chooser.addEventListener("change", () => drawHistogram(chart));
    setUpBrush(chart, changed);
    charts.push(chart);
  }
}

// The edges leave out one row in two hundred at the far end: it is counted in the last bin.
function binsOf(column) {
  if (!column.bins) {
    const sorted = Float64Array.from(column.values.filter((value) => !Number.isNaN(value))).sort();
    const low = sorted[0],
      far = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.995))];
    const whole = column.values.every((value) => Number.isNaN(value) || Number.isInteger(value));
    let step = (Math.max(far, low + (whole ? 1 : 1e-6)) - low) / BINS;
    if (whole) step = Math.max(1, Math.ceil(step));
    column.bins = {low, step, whole, count: Math.max(1, Math.min(BINS, Math.floor((far - low) / step) + 1))};
  }
  return column.bins;
}

function drawHistogram(chart) {
  const column = (chart.column = table.number[chart.chooser.value]),
    bins = binsOf(column);
  const all = new Int32Array(bins.count),
    some = new Int32Array(bins.count),
    passing = [];
  for (let at = 0; at < table.rows.length; at++) {
    const value = column.values[at];
    if (Number.isNaN(value)) continue;
    const bin = Math.min(bins.count - 1, Math.floor((value - bins.low) / bins.step));
    all[bin]++;
    if (passesBut(at, column.filter)) some[bin]++;
    if (!failures[at]) passing.push(value);
  }
  chart.plot.replaceChildren(bars(column, bins, all, some), axis(bins));
  passing.sort((left, right) => left - right);
  const mean = passing.reduce((sum, value) => sum + value, 0) / passing.length;
  chart.facts.textContent = passing.length
    ? `median ${number(passing[passing.length >> 1])} · mean ${number(Number(mean.toPrecision(3)))}`
    : "no rows";
}

function bars(column, bins, all, some) {
  const drawing = svg("svg", {viewBox: `0 0 ${bins.count} ${HIGH}`, preserveAspectRatio: "none", class: "bars"});
  const most = Math.max(1, ...all),
    mostShown = Math.max(1, ...some),
    chosen = column.filter.chosen;
  for (let bin = 0; bin < bins.count; bin++) {
    const from = bins.low + bin * bins.step,
      to = from + bins.step;
    const outside =
      chosen &&
      (bin < bins.count - 1
        ? to <= chosen[0] || from > chosen[1]
        : Math.max(to, column.high) <= chosen[0] || from > chosen[1]);
    for (const [counts, top, name] of [
      [all, most, "all"],
      [some, mostShown, outside ? "some out" : "some"],
    ]) {
      const high = counts[bin] ? Math.max(1.5, (counts[bin] / top) * HIGH) : 0;
      drawing.append(svg("rect", {x: bin + 0.06, width: 0.88, y: HIGH - high, height: high, class: name}));
    }
  }
  return drawing;
}

function axis(bins) {
  const end = bins.low + bins.step * bins.count,
    middle = bins.low + bins.step * Math.floor(bins.count / 2);
  return element(
    "div",
    {class: "axis"},
    ...[bins.low, middle, end].map((value) => element("span", {}, number(Number(value.toPrecision(3))))),
  );
}

function setUpBrush(chart, changed) {
  let start = null;
  const place = (event) => {
    const {left, width} = chart.plot.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width));
  };
  const keep = (end) => {
    const {bins, filter, high} = chart.column,
      [low, far] = [Math.min(start, end), Math.max(start, end)];
    if (far - low < 0.01) filter.chosen = null;
    else {
      const edge = (share) => bins.low + Math.round(share * bins.count) * bins.step;
      const last = Math.round(far * bins.count) >= bins.count;
      filter.chosen = [edge(low), last ? Math.max(high, edge(far)) : bins.whole ? edge(far) - 1 : edge(far)];
      if (filter.chosen[0] > filter.chosen[1]) filter.chosen = null;
    }
    refresh(filter);
    changed();
  };
  chart.plot.addEventListener("pointerdown", (event) => {
    start = place(event);
    chart.plot.setPointerCapture(event.pointerId);
  });
  chart.plot.addEventListener("pointermove", (event) => {
    if (start !== null && Math.abs(place(event) - start) >= 0.01) keep(place(event));
  });
  chart.plot.addEventListener("pointerup", (event) => {
    if (start !== null) keep(place(event));
    start = null;
  });
  chart.plot.addEventListener("pointercancel", () => (start = null));
}

function drawCharts() {
  if (document.getElementById("charts").hidden) return;
  for (const chart of charts) drawHistogram(chart);
}
