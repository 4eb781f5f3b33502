// Values of a chart: columns and rows for table and CSV, smoothing. No DOM here.

const TABLE_ROWS = 50;
const HEAT_AXIS = { tickformat: ".1%" }; // in squares stand shares
const SPANS = [0, 0.01, 0.05]; // of the x axis: how far a smoothed point looks back, for off, some and more

const xsOf = (trace) => trace.x ?? (trace.y ?? []).map((_, place) => place);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Traces that a person would call a line: named, and not one of a line's companions. */
const namedTraces = (spec) => spec.data.filter((trace) => trace.name && trace.showlegend !== false && trace.y);

/** A line that says "this much, everywhere": its ends are those of the axis and no points of their own. */
function isLevel(trace) {
  if (trace.meta === "level") return true;
  const [xs, ys] = [xsOf(trace), trace.y];
  return xs.length === 2 && ys[0] === ys[1] && isNumber(xs[0]) && !Number.isInteger(xs[0]);
}

const heatOf = (spec) => spec.data.find(({ type }) => type === "heatmap");
const parallelOf = (spec) => spec.data.find(({ type }) => type === "parcoords");

/** What an axis writes at a value, where it has words of its own; else the value. */
function tickOf(axis, value) {
  const place = axis?.ticktext ? axis.tickvals.indexOf(value) : -1;
  return place < 0 ? value : axis.ticktext[place];
}

/** Header and rows, with the axis in whose style each column after the first is written. */
function tableOf(spec) {
  if (heatOf(spec)) return heatTable(spec, heatOf(spec));
  return parallelOf(spec) ? parallelTable(parallelOf(spec)) : lineTable(spec);
}

/** x, then a value or null for each trace, by rising x; points of one trace that share an x have a row each. */
function lineTable(spec) {
  const traces = namedTraces(spec);
  const levels = traces.map(isLevel);
  const rows = new Map();
  const row = (x, again) => {
    const key = again ? `${again} ${x}` : x;
    return rows.get(key) ?? rows.set(key, [x, ...traces.map(() => null)]).get(key);
  };
  const fromLevels = levels.every(Boolean);
  traces.forEach((trace, column) => {
    if (levels[column] && !fromLevels) return;
    const times = new Map();
    xsOf(trace).forEach((x, place) => {
      const again = times.get(x) ?? 0;
      times.set(x, again + 1);
      row(x, again)[column + 1] = trace.y[place] ?? null;
    });
  });
  const sorted = [...rows.values()];
  if (sorted.every(([x]) => isNumber(x))) sorted.sort((a, b) => a[0] - b[0]);
  for (const each of sorted) {
    each[0] = tickOf(spec.layout.xaxis, each[0]);
    traces.forEach((trace, column) => {
      if (levels[column]) each[column + 1] = trace.y[0];
    });
  }
  const header = [titleOf(spec.layout.xaxis) || "x", ...traces.map((trace) => trace.name)];
  return { header, rows: sorted, axes: traces.map(() => spec.layout.yaxis) };
}

/** A row for each line of squares, the topmost first. */
function heatTable({ layout }, { x, y, z }) {
  const corner = `${titleOf(layout.yaxis)} \\ ${titleOf(layout.xaxis)}`;
  const rows = y.map((value, row) => [tickOf(layout.yaxis, value), ...z[row]]).reverse();
  return { header: [corner, ...x.map((value) => tickOf(layout.xaxis, value))], rows, axes: x.map(() => HEAT_AXIS) };
}

/** A row for each line through all axes. An axis of the name "log" has its values as decimal logarithms. */
function parallelTable({ dimensions }) {
  const columns = dimensions.map((axis) =>
    axis.values.map((value) => (axis.name === "log" ? Number((10 ** value).toPrecision(6)) : tickOf(axis, value))),
  );
  const rows = (columns[0] ?? []).map((_, place) => columns.map((column) => column[place]));
  return { header: dimensions.map((axis) => axis.label), rows, axes: dimensions.slice(1) };
}

const titleOf = (axis) => (typeof axis?.title === "string" ? axis.title : (axis?.title?.text ?? ""));

/** Every 2^n-th row and the latest, so that rows stay the same while data grow. */
function someRows(rows) {
  let stride = 1;
  while (Math.ceil((rows.length - 1) / stride) > TABLE_ROWS) stride *= 2;
  return rows.filter((_, place) => place % stride === 0 || place === rows.length - 1);
}

/** How many steps a smoothed point looks back: a part of the axis, or of the data where the axis has no range. */
function reach(spec, level) {
  const range = spec.layout.xaxis?.range;
  if (range?.every(isNumber)) return SPANS[level] * Math.abs(range[1] - range[0]);
  let [low, high] = [Infinity, -Infinity];
  for (const trace of spec.data) {
    for (const x of xsOf(trace)) {
      if (x < low) low = x;
      if (x > high) high = x;
    }
  }
  return SPANS[level] * Math.max(high - low, 0);
}

/** Exponential moving average by steps; dividing by the weights so far makes the first points unbiased. */
function smoothed(xs, ys, steps) {
  let [sum, weight, before] = [0, 0, xs[0]];
  return ys.map((y, place) => {
    if (!isNumber(y)) return null;
    const kept = steps > 0 ? Math.exp(-(xs[place] - before) / steps) : 0;
    before = xs[place];
    sum = sum * kept + y;
    weight = weight * kept + 1;
    return sum / weight;
  });
}

const canBeSmoothed = (trace) =>
  trace.y?.length > 2 && xsOf(trace).every(isNumber) && /lines/.test(trace.mode ?? "lines") && !isLevel(trace);

/** A field of a CSV file. A text that a spreadsheet would take for a formula gets an apostrophe. */
function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = /^\s*[=+\-@]|^[\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The file's text. It begins with a byte order mark, without which Excel does not read β. */
const csvOf = ({ header, rows }) =>
  `\ufeff${[header, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n")}\r\n`;
