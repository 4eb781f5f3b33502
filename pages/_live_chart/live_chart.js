// Draws with Plotly.react, so that the chart stays one DOM node and uirevision keeps zoom and legend choices.

let loading = null;

function loadPlotly(file) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(`app/static/${file}`, document.baseURI).href;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error(`cannot load ${script.src}`));
    };
    document.head.appendChild(script);
  });
  return loading;
}

function themed(layout, node) {
  const style = getComputedStyle(node);
  const text = style.getPropertyValue("--st-text-color").trim() || "#1b1b1b";
  const line = style.getPropertyValue("--st-border-color").trim() || "#e2e2de";
  const paper = style.getPropertyValue("--st-background-color").trim() || "#ffffff";
  const axis = { gridcolor: line, zeroline: false, linecolor: line, automargin: false };
  return {
    ...layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: style.getPropertyValue("--st-font").trim() || "sans-serif", size: 13 },
    hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: text } },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

export default function (component) {
  const { data, parentElement } = component;
  const node = parentElement.querySelector(".live-chart");
  node.setAttribute("aria-label", data.label);
  const current = (node._turn ?? 0) + 1;
  node._turn = current;
  if (!window.Plotly) node.setAttribute("aria-busy", "true");
  loadPlotly(data.plotly).then(
    (Plotly) => {
      if (node._turn !== current || !node.isConnected) return;
      node.removeAttribute("aria-busy");
      Plotly.react(node, data.spec.data, themed(data.spec.layout, node), {
        displaylogo: false,
        showSendToCloud: false,
        responsive: true,
        modeBarButtonsToRemove: ["select2d", "lasso2d"],
      });
    },
    (error) => {
      node.removeAttribute("aria-busy");
      node.textContent = `The chart cannot be drawn: ${error.message}`;
    },
  );
  // Plotly's hover timers outlive the node by a moment, so it is purged a little later, and only if it is gone.
  return () => setTimeout(() => node.isConnected || window.Plotly?.purge(node), 2000);
}
