// One chart: a DOM node that Plotly.react draws into for as long as it is on the page.
//
// What a person has chosen (zoom, hidden lines, scale, smoothing, table) is kept in `view` and laid over each new
// specification. Plotly's uirevision is not used for it: it gives a zoom up as soon as the range that comes with the
// data changes, and that of a growing chart does.

const CONFIG = { displayModeBar: false, showTips: false, showSendToCloud: false, doubleClick: false };
const WORDS_MS = 3000; // no more often is the text alternative renewed
const TABLE_MS = 2000; // nor the open table, under the eyes or the cursor of who reads it
const LOG_LEFT = 66; // pixels that the labels of a logarithmic axis need beside its title
const RETRY_MS = 10_000;
const charts = new WeakMap();

let loading = null;
let failedAt = -Infinity;

function loadPlotly(file) {
  if (window.Plotly) return Promise.resolve();
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(`app/static/${file}`, document.baseURI).href;
    script.onload = () => (window.Plotly ? resolve() : script.onerror());
    script.onerror = () => {
      loading = null;
      failedAt = performance.now();
      script.remove();
      reject(new Error(`cannot load ${script.src}`));
    };
    document.head.appendChild(script);
  });
  return loading;
}

/** Calls `action` soon, and at most once in so many milliseconds. */
function atMostEvery(milliseconds, action) {
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    action();
  };
  const ask = () => {
    timer ??= setTimeout(run, Math.max(0, last + milliseconds - performance.now()));
  };
  ask.stop = () => clearTimeout(timer);
  ask.now = () => {
    clearTimeout(timer);
    run();
  };
  return ask;
}

/** The colours and the font of the person's theme, as they are now. */
function themeOf(node) {
  const style = getComputedStyle(node);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return {
    text: read("--st-text-color", "#1b1b1b"),
    line: read("--st-border-color", "#e2e2de"),
    paper: read("--st-background-color", "#ffffff"),
    font: read("--st-font", "sans-serif"),
    colour: (value) => {
      const name = typeof value === "string" && /^var\((--[\w-]+)\)$/.exec(value)?.[1];
      return name ? read(name, "#888888") : value;
    },
  };
}

function coloured(trace, theme) {
  const made = { ...trace };
  for (const part of ["line", "marker"]) {
    if (made[part]) made[part] = inked(made[part], theme);
  }
  return made;
}

/** The looks of a line, marker or shape, with the colours that its theme variables have now. */
function inked(part, theme) {
  const made = { ...part };
  if (made.color) made.color = theme.colour(made.color);
  if (made.line) made.line = inked(made.line, theme);
  return made;
}

/** The lines as they are drawn: named ones first, then the faint raw line of each that is smoothed. */
function drawnTraces(spec, view, theme) {
  const steps = reach(spec, view.smooth);
  const raws = [];
  const named = spec.data.map((given) => {
    const trace = coloured(given, theme);
    if (view.hidden.has(given.name)) trace.visible = "legendonly";
    if (!trace.y) return trace;
    const y = onScale(given.y, view);
    if (!view.smooth || !canBeSmoothed(given)) return { ...trace, y };
    const line = { ...trace.line, width: 1, dash: "solid" };
    raws.push({ ...trace, y, line, opacity: 0.25, showlegend: false, hoverinfo: "skip", hovertemplate: "", zorder: -1 });
    return { ...trace, y: onScale(smoothed(xsOf(given), given.y, steps), view) };
  });
  return [...named, ...raws];
}

/** A logarithmic axis has no place for 0 and less. */
const onScale = (y, view) => (view.log ? y.map((value) => (value > 0 ? value : null)) : y);

function drawnLayout(spec, view, theme) {
  const { height, width, template, ...layout } = spec.layout;
  const axis = { gridcolor: theme.line, zeroline: false, linecolor: theme.line, automargin: false };
  const yaxis = { ...axis, ...layout.yaxis };
  const spike = { spikecolor: theme.text, spikethickness: 1, spikedash: "dot" };
  const margin = { l: 56, r: 12, b: 44, ...layout.margin, t: 8 };
  return {
    ...layout,
    autosize: true,
    showlegend: false,
    dragmode: "zoom",
    uirevision: null,
    margin: view.log ? { ...margin, l: Math.max(margin.l, LOG_LEFT) } : margin,
    paper_bgcolor: theme.paper,
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: theme.text, family: theme.font, size: 13, ...layout.font },
    hoverlabel: { bgcolor: theme.paper, bordercolor: theme.line, font: { color: theme.text } },
    xaxis: held({ ...axis, ...spike, ...layout.xaxis }, view.held?.x),
    yaxis: held(view.log ? logarithmic(yaxis, spec, view) : yaxis, view.held?.y),
    ...(layout.shapes && { shapes: layout.shapes.map((shape) => inked(shape, theme)) }),
  };
}

/** Following takes the range that came with the data; holding keeps the person's. */
const held = (axis, range) => (range ? { ...axis, range: [...range], autorange: false } : axis);

/** Over a few decades each has a label; within fewer, 2 and 5 have one too. Plotly by itself would crowd them. */
function logarithmic({ range, dtick, tickformat, rangemode, ...axis }, spec, view) {
  const span = view.held?.y ? Math.abs(view.held.y[1] - view.held.y[0]) : decades(spec, view);
  const ticks = span > 2 ? { dtick: Math.ceil(span / 5) } : { nticks: 3 };
  return { ...axis, ...ticks, type: "log", exponentformat: "power" };
}

function decades(spec, view) {
  let [low, high] = [Infinity, 0];
  for (const { name, y } of spec.data) {
    if (view.hidden.has(name)) continue;
    for (const value of y ?? []) {
      if (value > 0 && value < low) low = value;
      if (value > high) high = value;
    }
  }
  return high > 0 ? Math.log10(high / low) : 0;
}

/** The chart of a frame; there is one as long as the frame is on the page. */
function open(frame) {
  const find = (selector) => frame.querySelector(selector);
  const tool = (name) => find(`[data-tool="${name}"]`);
  const node = find(".live-chart");
  const values = find(".live-chart-values");
  const view = { held: null, log: false, smooth: 0, hidden: new Set(), table: false };
  const stopping = new AbortController();
  let [told, message, drawing, failure, shown, trigger] = ["", null, null, null, "", null];

  function draw() {
    if (!window.Plotly || !message || stopping.signal.aborted || !node.offsetWidth) return;
    if (node._dragging) return drawLater();
    const theme = themeOf(frame);
    const { spec } = message;
    shown = theme.text + theme.paper + theme.font;
    drawing = { data: drawnTraces(spec, view, theme), layout: drawnLayout(spec, view, theme), theme };
    const first = !node._fullLayout;
    window.Plotly.react(node, drawing.data, drawing.layout, CONFIG);
    node.removeAttribute("aria-busy");
    if (first) {
      watchZoom();
      watchClicks();
    }
    drawLegend(find(".live-chart-legend"), spec, view, theme);
  }
  const drawLater = atMostEvery(150, draw); // a drag is not disturbed

  function watchZoom() {
    node.on("plotly_relayout", (change) => {
      if (!Object.keys(change).some((name) => /^[xy]axis\.range/.test(name))) return;
      const { xaxis, yaxis } = node._fullLayout;
      view.held = { x: [...xaxis.range], y: [...yaxis.range] };
      showTools();
    });
    node.on("plotly_doubleclick", () => setTimeout(follow, 0));
  }

  /** A click or a tap on a point that stands for something. */
  function watchClicks() {
    node.on("plotly_click", ({ points }) => {
      const chosen = points.map(({ customdata }) => customdata).find((each) => each !== undefined && each !== null);
      if (message.clicks && chosen !== undefined) trigger("clicked", chosen);
    });
  }

  function follow() {
    if (document.activeElement === tool("follow")) tool("table").focus();
    view.held = null;
    showTools();
    draw();
  }

  function showTools() {
    tool("follow").classList.toggle("live-chart-away", !view.held);
    tool("log").hidden = !message.log || Boolean(failure);
    tool("smooth").hidden = !message.smooth || Boolean(failure);
    tool("png").hidden = Boolean(failure);
    find(".live-chart-legend").hidden = Boolean(failure);
    tool("log").setAttribute("aria-pressed", view.log);
    tool("table").setAttribute("aria-pressed", view.table || Boolean(failure));
    tool("table").disabled = Boolean(failure);
    frame.classList.toggle("live-chart-reads", view.table || Boolean(failure));
    values.hidden = !view.table && !failure;
    const alert = values.querySelector("p");
    alert.hidden = !failure;
    const words = failure ? `The chart cannot be drawn: ${failure.message}. Its values are in this table.` : "";
    if (alert.textContent !== words) alert.textContent = words;
  }

  const describe = atMostEvery(WORDS_MS, () => {
    node.setAttribute("aria-label", chartWords(message.label, message.spec, view.hidden));
  });
  const fillTable = atMostEvery(TABLE_MS, () => drawTable(values.querySelector("table"), message));

  function update(bytes, setTriggerValue) {
    trigger = setTriggerValue;
    const text = typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes);
    if (text === told && !failure) {
      const theme = themeOf(frame);
      if (shown !== theme.text + theme.paper + theme.font) draw();
      return;
    }
    [told, message] = [text, JSON.parse(text)];
    frame.style.height = `${message.height}px`;
    frame.classList.toggle("live-chart-clicks", message.clicks);
    name();
    showTools();
    describe();
    if (!values.hidden) fillTable();
    if (window.Plotly) draw();
    else load();
  }

  function name() {
    find(".live-chart-tools").setAttribute("aria-label", `Tools of: ${message.label}`);
    find(".live-chart-legend").setAttribute("aria-label", `Lines of: ${message.label}`);
    find(".live-chart-scroll").setAttribute("aria-label", `Values of: ${message.label}`);
  }

  function load() {
    if (performance.now() - failedAt < RETRY_MS && !loading && failure) return;
    if (!failure) node.setAttribute("aria-busy", "true");
    if (load.waits) return;
    load.waits = true;
    loadPlotly(message.plotly).then(
      () => ended(null),
      (error) => ended(error),
    );
  }

  function ended(error) {
    load.waits = false;
    failure = error;
    node.removeAttribute("aria-busy");
    if (stopping.signal.aborted) return;
    showTools();
    if (error) fillTable.now();
    else draw();
  }

  function listen(name, event, action) {
    tool(name).addEventListener(event, action, { signal: stopping.signal });
  }
  listen("follow", "click", follow);
  listen("log", "click", () => {
    view.log = !view.log;
    if (view.held) view.held.y = null; // its numbers belong to the other scale
    showTools();
    draw();
  });
  listen("smooth", "change", (event) => {
    view.smooth = Number(event.target.value);
    draw();
  });
  listen("table", "click", () => {
    view.table = !view.table;
    showTools();
    if (view.table) fillTable.now();
  });
  listen("png", "click", () => savePicture(message, drawing, node));
  listen("csv", "click", () => saveText(csvOf(tableOf(message.spec)), `${fileName(message.label)}.csv`));
  find(".live-chart-legend").addEventListener(
    "click",
    ({ target }) => {
      const line = target.closest("button")?.dataset.line;
      if (line === undefined) return;
      if (!view.hidden.delete(line)) view.hidden.add(line);
      describe();
      draw();
    },
    { signal: stopping.signal },
  );
  const sizes = new ResizeObserver(() => (node._fullLayout ? resize(node) : draw()));
  sizes.observe(node);

  function close() {
    stopping.abort();
    sizes.disconnect();
    for (const each of [drawLater, describe, fillTable]) each.stop();
    window.Plotly?.purge(node);
    charts.delete(frame);
  }
  return { update, close };
}

function resize(node) {
  const { width, height } = node._fullLayout;
  if (!node.offsetWidth || (width === node.offsetWidth && height === node.offsetHeight)) return;
  window.Plotly.Plots.resize(node);
}

const element = (name, properties = {}, children = []) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

/** A button for each line: shown or hidden. Rebuilt only when the lines or their looks have changed. */
function drawLegend(legend, spec, view, theme) {
  const lines = spec.layout.showlegend === false ? [] : namedTraces(spec).map((trace) => coloured(trace, theme));
  const looks = JSON.stringify(lines.map(({ name, line, marker, mode }) => [name, line, marker, mode]));
  if (legend.dataset.looks !== looks) {
    const focused = legend.contains(document.activeElement) ? document.activeElement.dataset.line : null;
    legend.dataset.looks = looks;
    legend.replaceChildren(...lines.map(legendButton));
    [...legend.children].find((button) => button.dataset.line === focused)?.focus();
  }
  for (const button of legend.children) button.setAttribute("aria-pressed", !view.hidden.has(button.dataset.line));
}

function legendButton(trace) {
  const button = element("button", { type: "button", title: `Show or hide: ${trace.name}` }, [swatch(trace), trace.name]);
  button.dataset.line = trace.name;
  return button;
}

const SYMBOLS = {
  circle: "M9 5a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
  square: "M9 2h6v6h-6z",
  diamond: "M12 1l4 4l-4 4l-4 -4z",
  cross: "M12 1.5v7M8.5 5h7",
  "triangle-up": "M12 2l3.5 6h-7z",
  x: "M9 2l6 6M15 2l-6 6",
  star: "M12 0.5l1.2 3.2h3.4l-2.7 2l1 3.3l-2.9 -2l-2.9 2l1 -3.3l-2.7 -2h3.4z",
  "line-ew": "M8 5h8",
};
const DASHES = { dash: "6 3", dot: "2 3", dashdot: "6 3 2 3", longdash: "9 3" };

/** A short piece of the line. */
function swatch({ type, line, marker, mode }) {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const stroke = line?.color ?? marker?.color ?? "#888888";
  const svg = make("svg", { width: 24, height: 10, viewBox: "0 0 24 10", "aria-hidden": "true" });
  if (type === "bar") svg.append(make("path", { d: "M7 0h10v10h-10z", fill: stroke }));
  else if (/lines/.test(mode ?? "lines")) {
    const dash = DASHES[line?.dash] ?? "none";
    svg.append(
      make("path", { d: "M0 5H24", stroke, "stroke-width": Math.min(line?.width ?? 2, 3), "stroke-dasharray": dash }),
    );
  }
  if (/markers/.test(mode ?? "")) {
    const [shape, open] = (marker?.symbol ?? "circle").split("-open");
    const d = SYMBOLS[shape] ?? SYMBOLS.circle;
    const hollow = open !== undefined || shape === "x";
    svg.append(make("path", { d, stroke, "stroke-width": 1.5, fill: hollow ? "none" : stroke }));
  }
  return svg;
}

/** Fills the table in place: rows and cells that stay are not made again, so a reader keeps their place. */
function drawTable(table, { spec, label }) {
  const { header, rows, axes } = tableOf(spec);
  const chosen = someRows(rows);
  write(table.caption, `${label}${chosen.length < rows.length ? `: ${chosen.length} of ${rows.length} values` : ""}`);
  fitChildren(table.tHead, 1, () => element("tr"));
  fillRow(table.tHead.rows[0], header, () => "col");
  fitChildren(table.tBodies[0], chosen.length, () => element("tr"));
  chosen.forEach(([x, ...ys], place) => {
    const cells = [xWords(x), ...ys.map((y, column) => numberWords(y, axes[column]))];
    fillRow(table.tBodies[0].rows[place], cells, (column) => (column === 0 ? "row" : null));
  });
}

function fillRow(row, texts, scopeOf) {
  fitChildren(row, texts.length, (column) => {
    const scope = scopeOf(column);
    return scope ? element("th", { scope }) : element("td");
  });
  texts.forEach((text, column) => write(row.children[column], text));
}

function fitChildren(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make(parent.children.length));
}

function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

/** The view as it is, with title and legend, on the theme's background. */
function savePicture({ label }, { data, layout, theme }, node) {
  const seen = data.filter((trace) => trace.visible !== "legendonly");
  const ranges = ["xaxis", "yaxis"].filter((axis) => node._fullLayout[axis]); // parallel coordinates have neither
  const picture = {
    ...layout,
    title: { text: plotlyText(label), x: 0.01, xanchor: "left", font: { size: 16 } },
    showlegend: !layout.annotations?.length,
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
    margin: { ...layout.margin, t: 84 },
    paper_bgcolor: theme.paper,
    plot_bgcolor: theme.paper,
    ...Object.fromEntries(ranges.map((axis) => [axis, { ...layout[axis], range: [...node._fullLayout[axis].range] }])),
  };
  const size = { width: 800, height: 450, scale: 2, format: "png", filename: fileName(label) };
  return window.Plotly.downloadImage({ data: seen, layout: picture }, size);
}

function saveText(text, name) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = element("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const frame = parentElement.querySelector(".live-chart-frame");
  if (!charts.has(frame)) charts.set(frame, open(frame));
  charts.get(frame).update(data, setTriggerValue);
  // Called once, when the component leaves the page. Plotly's hover timers outlive the node by a moment.
  return () => setTimeout(() => frame.isConnected || charts.get(frame)?.close(), 2000);
}
