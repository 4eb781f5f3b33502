// What a chart says: numbers as people read them, the text alternative, names of files.

/** A value in the style of its axis: per cent, or a number of some digits. */
function numberWords(value, axis, digits = 4) {
  if (!isNumber(value)) return value === null || value === undefined ? "" : String(value);
  if (axis?.tickformat?.endsWith("%")) return `${(100 * value).toFixed(1)} %`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.1 && size >= 0.001) return value.toPrecision(digits - 1);
  if (size < 0.001 || size >= 1e6) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : size >= 1 ? Math.min(digits, 3) : digits);
}

const xWords = (x) => (isNumber(x) && !Number.isInteger(x) ? x.toFixed(2) : String(x));

/** What the chart shows and its latest values, for people who do not see it. */
function chartWords(label, spec, hidden) {
  if (heatOf(spec)) return `${label}. Heat map ${rangeWords(heatOf(spec).z.flat(), HEAT_AXIS)}.`;
  if (parallelOf(spec)) {
    const { dimensions } = parallelOf(spec);
    const count = dimensions[0].values.length;
    return `${label}. ${count} lines through ${dimensions.map((axis) => axis.label).join(", ")}.`;
  }
  if (spec.data.some(isOfPoints)) return pointWords(label, spec, hidden);
  const traces = namedTraces(spec).filter((trace) => !hidden.has(trace.name));
  const unit = titleOf(spec.layout.xaxis) || "x";
  const latest = traces.flatMap((trace) => lastOf(trace, spec.layout.xaxis));
  if (!latest.length) {
    const note = (spec.layout.annotations ?? []).map((each) => each.text).join(" ");
    return `${label}. ${note || "No values yet"}.`;
  }
  const points = latest.filter(({ level }) => !level);
  const together = points.every(({ x }) => x === points[0].x);
  const at = ({ x }) => ` at ${unit} ${xWords(x)}`;
  const said = latest.map((each) => {
    const value = `${each.name} ${numberWords(each.value, spec.layout.yaxis, 3)}`;
    return together || each.level ? value : value + at(each);
  });
  const end = together && points.length ? at(points[0]) : "";
  const kind = traces.length === 1 ? "Line chart of 1 line" : `Line chart of ${traces.length} lines`;
  return `${label}. ${kind} by ${unit}. Latest values: ${said.join(", ")}${end}.`;
}

/** A line may begin as a single marker; what can be clicked without any line are points for good. */
const isOfPoints = ({ type, mode, customdata }) => type === "bar" || (mode === "markers" && customdata !== undefined);

/** Of points and bars the number and the range: none of them is the latest. */
function pointWords(label, spec, hidden) {
  const traces = namedTraces(spec).filter((trace) => !hidden.has(trace.name));
  const said = traces.map(({ name, y }) => `${name} ${rangeWords(y, spec.layout.yaxis)}`);
  return `${label}. By ${titleOf(spec.layout.xaxis) || "kind"}: ${said.join("; ") || "no values yet"}.`;
}

function rangeWords(values, axis) {
  const known = values.filter(isNumber);
  if (!known.length) return "without values yet";
  const [low, high] = [Math.min(...known), Math.max(...known)].map((value) => numberWords(value, axis, 3));
  return `of ${known.length} ${known.length === 1 ? "value" : "values"}, ${low} to ${high}`;
}

function lastOf(trace, xaxis) {
  const place = trace.y.findLastIndex(isNumber);
  if (place < 0) return [];
  return [{ name: trace.name, value: trace.y[place], x: tickOf(xaxis, xsOf(trace)[place]), level: isLevel(trace) }];
}

const fileName = (label) => label.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "") || "chart";

/** A name inside Plotly's own small HTML. */
const plotlyText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
