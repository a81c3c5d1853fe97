// The curves. Plotly is unpacked when the first chart is seen, or when the browser is idle. Each
// chart is drawn once it is seen.
"use strict";

const COLOURS = {
  light: [
    "#0b5fa5",
    "#c8501e",
    "#2e7d32",
    "#8a4fa3",
    "#9a7400",
    "#00838f",
    "#c2457f",
    "#555555",
    "#5d6d00",
    "#b71c1c",
  ],
  dark: [
    "#6cb2f2",
    "#ff9a5c",
    "#6fcf7c",
    "#cf9ae8",
    "#e3c04d",
    "#4dd0e1",
    "#f48fb1",
    "#b0b7c3",
    "#c5d86d",
    "#ff8a80",
  ],
};
const DASHES = ["solid", "dot", "dash", "dashdot"];
const drawn = new Map();

function layoutOf(chart) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), size: 11, family: "system-ui, sans-serif" },
    margin: { l: 46, r: 12, t: 6, b: 34 },
    xaxis: { ...axis, title: { text: "rollout step", standoff: 6 }, rangemode: "tozero" },
    yaxis: { ...axis, title: { text: chart.unit, standoff: 4 }, rangemode: rangeOf(chart) },
    showlegend: chart.lines.length > 1,
    legend: { orientation: "h", y: -0.22, yanchor: "top", font: { size: 10 } },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--raised"), font: { color: colour("--ink") } },
  };
}

function rangeOf(chart) {
  return chart.stacked || chart.unit === "%" || chart.unit === "s" ? "tozero" : "normal";
}

function tracesOf(chart) {
  const colours = COLOURS[document.documentElement.dataset.theme];
  const several = facts.runs.length > 1 && !chart.stacked;
  const quantities = new Map();
  return chart.lines.map((line, i) => {
    // Several runs: a colour for each run, a dash for each quantity.
    const seen = quantities.get(line.run) || 0;
    quantities.set(line.run, seen + 1);
    const colour = colours[(several ? line.run : i) % colours.length];
    const trace = {
      x: line.x,
      y: line.y,
      name: line.name,
      type: "scatter",
      mode: line.marked ? "lines+markers" : "lines",
      line: { color: colour, width: 1.8, dash: several ? DASHES[seen % DASHES.length] : "solid" },
      hovertemplate: "%{y:.4g}" + (line.name ? "" : "<extra></extra>"),
    };
    if (line.x.length === 1) trace.mode = "markers";
    if (chart.stacked)
      Object.assign(trace, { stackgroup: "parts", line: { color: colour, width: 0.5 } });
    if (line.high.length) {
      trace.error_y = {
        type: "data",
        symmetric: false,
        thickness: 1,
        width: 2,
        color: colour,
        array: line.high.map((value, k) => value - line.y[k]),
        arrayminus: line.low.map((value, k) => line.y[k] - value),
      };
    }
    return trace;
  });
}

function drawChart(plot, chart) {
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  drawn.set(plot, chart);
  return window.Plotly.react(plot, tracesOf(chart), layoutOf(chart), options);
}

// Plotly, unpacked and run once.
let plotlyRun = null;
function loadPlotly() {
  plotlyRun ??= unpacked("plotly").then((source) => {
    unpackedTexts.delete("plotly");
    const script = make("script", {});
    script.nonce = document.querySelector("script[nonce]").nonce;
    script.textContent = source;
    document.head.append(script);
  });
  return plotlyRun;
}

const nextFrame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

// Makes a place for each chart, and draws those that are seen, one in a frame.
async function showCharts(host) {
  const charts = await unpacked("charts");
  const waiting = new Map();
  const seen = [];
  let isDrawing = false;
  const drawSeen = async () => {
    if (isDrawing) return;
    isDrawing = true;
    await loadPlotly();
    while (seen.length) {
      const plot = seen.shift();
      if (!waiting.has(plot)) continue;
      drawChart(plot, waiting.get(plot));
      waiting.delete(plot);
      await nextFrame();
    }
    isDrawing = false;
    performance.mark("curves");
  };
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        seen.push(entry.target);
      }
      if (seen.length) drawSeen().catch(complain);
    },
    { rootMargin: "300px" },
  );
  for (const chart of charts) {
    const plot = make("div", { class: "plot" });
    host.append(
      make(
        "div",
        { class: "chart" },
        make("h3", {}, chart.title),
        make("p", { class: "quiet" }, chart.note),
        plot,
      ),
    );
    waiting.set(plot, chart);
    watcher.observe(plot);
  }
  // Printing cannot wait, so Plotly is there before, even if no chart was seen.
  (window.requestIdleCallback || setTimeout)(() => loadPlotly().catch(complain));
  addEventListener("beforeprint", () => {
    if (!window.Plotly) return;
    for (const [plot, chart] of waiting) drawChart(plot, chart);
    waiting.clear();
  });
}

document.addEventListener("theme", () => {
  for (const [plot, chart] of drawn) drawChart(plot, chart);
});
// In print a dark page would be all ink.
addEventListener("beforeprint", () => {
  document.documentElement.dataset.theme = "light";
  for (const [plot, chart] of drawn) drawChart(plot, chart);
});
addEventListener("afterprint", showTheme);
