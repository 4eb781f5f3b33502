// Values of a chart: columns and rows for table and CSV, smoothing. No DOM here.

const TABLE_ROWS = 50;
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

/** Header and rows: x, then a value or null for each line, by rising x. */
function tableOf(spec) {
  const traces = namedTraces(spec);
  const levels = traces.map(isLevel);
  const rows = new Map();
  const row = (x) => rows.get(x) ?? rows.set(x, [x, ...traces.map(() => null)]).get(x);
  const fromLevels = levels.every(Boolean);
  traces.forEach((trace, column) => {
    if (levels[column] && !fromLevels) return;
    xsOf(trace).forEach((x, place) => {
      row(x)[column + 1] = trace.y[place] ?? null;
    });
  });
  const sorted = [...rows.values()];
  if (sorted.every(([x]) => isNumber(x))) sorted.sort((a, b) => a[0] - b[0]);
  for (const each of sorted) {
    traces.forEach((trace, column) => {
      if (levels[column]) each[column + 1] = trace.y[0];
    });
  }
  return { header: [titleOf(spec.layout.xaxis) || "x", ...traces.map((trace) => trace.name)], rows: sorted };
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
