// The topic map: areas are numbers of rows, families in colours, their topics as tiles.

const MOST_TILES = 40,
  LEAST_AREA = 260; // of one family; pixels of a tile

function setUpMap(changed) {
  const pair =
    MAPS.find(([outer, inner]) => table.facet[outer] && table.facet[inner]) ??
    MAPS.flat()
      .filter((name) => table.facet[name])
      .slice(0, 1)
      .map((name) => [name, name])[0];
  table.map = pair ? {outer: table.facet[pair[0]], inner: table.facet[pair[1]], changed} : null;
  document.getElementById("map").closest("figure").hidden = !pair;
  if (pair)
    document.getElementById("map-title").textContent =
      pair[0] === pair[1] ? title(pair[0]) : `${title(pair[0])} × ${title(pair[1])}`;
}

// Rows by outer and inner value, passing all filters but these two columns'.
function mapCounts({outer, inner}) {
  const groups = new Map(),
    filters = new Set([outer.filter, inner.filter]);
  for (let at = 0; at < table.rows.length; at++) {
    if (!passesBut(at, ...filters)) continue;
    const group = outer.values[outer.codes[at]],
      item = inner.values[inner.codes[at]];
    if (!groups.has(group)) groups.set(group, new Map());
    groups.get(group).set(item, (groups.get(group).get(item) ?? 0) + 1);
  }
  return groups;
}

function drawMap() {
  const place = document.getElementById("map");
  if (!table.map || document.getElementById("charts").hidden) return;
  const {width, height} = place.getBoundingClientRect(),
    tiles = [];
  const groups = [...mapCounts(table.map)].map(([name, items]) => ({
    name,
    items,
    size: [...items.values()].reduce((a, b) => a + b, 0),
  }));
  for (const {item, box} of squarify(groups, {x: 0, y: 0, width, height})) tiles.push(...groupTiles(item, box));
  place.replaceChildren(...tiles);
}

function groupTiles(group, box) {
  const items = [...group.items].map(([name, size]) => ({name, size})).sort((left, right) => right.size - left.size);
  const room = Math.max(1, Math.min(MOST_TILES, Math.floor((box.width * box.height) / LEAST_AREA)));
  const kept = items.slice(0, room),
    rest = items.slice(room);
  if (rest.length) kept.push({name: null, size: rest.reduce((sum, item) => sum + item.size, 0), of: rest.length});
  const inner = {x: box.x + 1, y: box.y + 1, width: Math.max(0, box.width - 2), height: Math.max(0, box.height - 2)};
  return squarify(kept, inner).map(({item, box}) => tile(group, item, box));
}

function tile(group, item, box) {
  const {outer, inner, changed} = table.map,
    same = outer === inner;
  const family = outer.values.indexOf(group.name) % 8;
  const isOn = (column, value) => !column.filter.active || column.filter.chosen.has(value);
  const on = isOn(outer, group.name) && (item.name === null ? !inner.filter.active : isOn(inner, item.name));
  const name = item.name === null ? `${number(item.of)} more` : shownValue(inner.name, item.name);
  const label = same
    ? `${name}: ${plural(item.size, "row")}`
    : `${group.name || "none"} › ${name}: ${plural(item.size, "row")}`;
  const wide = box.width > 34 && box.height > 13;
  return element(
    "button",
    {
      class: `tile${item.name === null ? " rest" : ""}${on ? "" : " off"}`,
      title: label,
      tabindex: "-1",
      onclick: () => {
        choose(outer, group.name);
        if (item.name !== null && !same) choose(inner, item.name);
        changed();
      },
      style:
        `left:${box.x}px;top:${box.y}px;width:${Math.max(1, box.width - 1)}px;height:${Math.max(1, box.height - 1)}px;` +
        `background:var(--family-${family});${wide ? "" : "padding:0"}`,
    },
    wide ? name : null,
  );
}

// A click on what is chosen alone takes the choice back.
function choose(column, value) {
  const {chosen} = column.filter,
    alone = chosen.size === 1 && chosen.has(value);
  chosen.clear();
  if (!alone) chosen.add(value);
  refresh(column.filter);
}

// Squarified treemap (Bruls, Huizing and van Wijk, 2000): rows of tiles along the shorter side, as square as they come.
function squarify(items, box) {
  const total = items.reduce((sum, item) => sum + item.size, 0),
    placed = [];
  if (!total || box.width < 1 || box.height < 1) return placed;
  const scale = (box.width * box.height) / total;
  let left = [...items].sort((one, other) => other.size - one.size),
    {x, y, width, height} = box;
  const worst = (row, side) => {
    const area = row.reduce((sum, item) => sum + item.size * scale, 0);
    return Math.max(
      ...row.map((item) =>
        Math.max((side * side * item.size * scale) / area ** 2, area ** 2 / (side * side * item.size * scale)),
      ),
    );
  };
  while (left.length) {
    const side = Math.max(1e-6, Math.min(width, height));
    let count = 1;
    while (count < left.length && worst(left.slice(0, count + 1), side) <= worst(left.slice(0, count), side)) count++;
    const row = left.slice(0, count),
      thick = row.reduce((sum, item) => sum + item.size * scale, 0) / side;
    let along = 0;
    for (const item of row) {
      const long = (item.size * scale) / thick;
      placed.push({
        item,
        box:
          width >= height
            ? {x, y: y + along, width: thick, height: long}
            : {x: x + along, y, width: long, height: thick},
      });
      along += long;
    }
    if (width >= height) {
      x += thick;
      width -= thick;
    } else {
      y += thick;
      height -= thick;
    }
    left = left.slice(count);
  }
  return placed;
}
