// Draws the charts of a page with plotly: each <figure class="chart"> has its data as JSON, and the same numbers as a
// table for whoever has no scripts. What was zoomed or hidden stays so when the page is refreshed.
"use strict";

const kept = new Map(); // by chart: the drawn element
const dark = matchMedia("(prefers-color-scheme: dark)");
const coarse = matchMedia("(pointer: coarse)").matches;

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colour = (name) => variable(name) || variable("faint");
const clear = (name, share) => {
  const [red, green, blue] = colour(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  return `rgba(${red},${green},${blue},${share})`;
};

// Plotly takes some tags in texts for its own.
const text = (value) => (typeof value === "string" ? value.replaceAll("&", "&amp;").replaceAll("<", "&lt;") : value);

function mean(values, window) {
  const found = [];
  for (let end = window; end <= values.length; end++) {
    found.push(values.slice(end - window, end).reduce((sum, value) => sum + value, 0) / window);
  }
  return found;
}

function bars(one) {
  const length = (values, sign) => one.y.map((y, n) => Math.max(0, sign * ((values[n] ?? y) - y)));
  if (!one.low) return {};
  return { error_y: { type: "data", symmetric: false, array: length(one.high, 1), arrayminus: length(one.low, -1),
                      color: one.style === "bars" ? variable("text") : colour(one.colour), thickness: 1.2, width: 3 } };
}

function traces(one) {
  const base = { x: one.x.map(text), y: one.y, name: text(one.label), yaxis: one.right ? "y2" : "y", legendgroup: one.label,
                 hovertemplate: "%{y:.5g}<extra>%{fullData.name}</extra>" };
  const line = (width, share) => ({ color: clear(one.colour, share), width, dash: one.dash ? "dash" : "solid" });
  switch (one.style) {
    case "band": {
      const edge = { ...base, type: "scatter", mode: one.x.length > 60 ? "lines" : "lines+markers", line: line(1, 0.9),
                     marker: { size: 3 } };
      return [{ ...edge, y: one.low, showlegend: false, name: `${text(one.label)}: lowest` },
              { ...edge, y: one.high, fill: "tonexty", fillcolor: clear(one.colour, 0.18) }];
    }
    case "stack":
    case "bars":
      return [{ ...base, type: "bar", marker: { color: colour(one.colour), pattern: { shape: one.dash ? "/" : "" } },
                ...bars(one) }];
    case "intervals":
      return [{ ...base, type: "scatter", mode: "markers", ...bars(one),
                marker: { size: 8, color: colour(one.colour), symbol: one.dash ? "diamond-open" : "circle" } }];
    default: {
      const dots = one.style === "dots";
      const faint = one.window && !dots;
      const raw = { ...base, type: "scatter", mode: dots ? "markers" : one.x.length > 60 ? "lines" : "lines+markers",
                    line: line(faint ? 1 : 1.6, faint ? 0.35 : 1), marker: { size: 5, color: clear(one.colour, dots ? 0.7 : 1) },
                    opacity: 1 };
      if (!one.window) return [raw];
      const smooth = { ...base, type: "scatter", mode: "lines", x: one.x.slice(one.window - 1), y: mean(one.y, one.window),
                       line: dots ? { color: colour("blue"), width: 2.4 } : line(2.4, 1), legendgroup: `${one.label} mean`,
                       name: dots ? `mean of the last ${one.window}` : text(one.label) };
      return [{ ...raw, showlegend: dots }, smooth];
    }
  }
}

function layout(chart) {
  const axis = { gridcolor: variable("line"), linecolor: variable("line"), zerolinecolor: variable("line"),
                 automargin: true, fixedrange: coarse };
  const scale = (unit, percent, fromZero) =>
    ({ ...axis, title: { text: text(unit), standoff: 8 }, ...(percent ? { range: [-3, 103] } : fromZero ? { rangemode: "tozero" } : {}) });
  const named = chart.series.some((one) => one.x.some((x) => typeof x === "string"));
  const stacked = chart.series.some((one) => one.style === "stack");
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: chart.name,
    font: { color: variable("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    margin: { l: 48, r: chart.right_unit ? 48 : 12, t: 26, b: 40 }, height: 320, hovermode: named ? "closest" : "x unified",
    hoverlabel: { bgcolor: variable("panel"), bordercolor: variable("line"), font: { color: variable("text") } },
    barmode: stacked ? "stack" : "group", bargap: stacked && chart.series[0].x.length > 60 ? 0 : 0.2,
    dragmode: coarse ? false : "zoom", showlegend: chart.series.length > 1 || Boolean(chart.series[0].window),
    // names below a chart may be long and slanted, so that nothing else has a place there
    legend: { orientation: "h", x: 0, traceorder: "normal", font: { size: 11 },
              ...(named ? { y: 1.02, yanchor: "bottom" } : { y: -0.22, yanchor: "top" }) },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("faint"), activecolor: variable("text") },
    xaxis: { ...axis, title: { text: named ? "" : chart.x_title, standoff: 4 },
             ...(named ? {} : { tickformat: "d", hoverformat: "d", nticks: 12 }) },
    yaxis: scale(chart.unit, chart.percent, chart.from_zero),
    ...(chart.right_unit ? { yaxis2: { ...scale(chart.right_unit, chart.right_percent, true), overlaying: "y", side: "right",
                                       showgrid: false, tickmode: "auto", nticks: 6 } } : {}),
    shapes: chart.mark == null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: chart.mark, y1: chart.mark,
                                         line: { color: variable("faint"), width: 1, dash: "dot" } }],
  };
}

function draw(figure) {
  const chart = JSON.parse(figure.querySelector("script.chart-data").textContent);
  let place = figure.querySelector(".chart-place");
  const before = kept.get(chart.name);
  if (before && before !== place) {
    place.replaceWith(before);
    place = before;
  }
  kept.set(chart.name, place);
  const options = { displaylogo: false, responsive: true, scrollZoom: false,
                    displayModeBar: coarse ? false : "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
                    toImageButtonOptions: { format: "png", filename: chart.name.replaceAll("/", "-"), scale: 2 } };
  Plotly.react(place, chart.series.flatMap(traces), layout(chart), options);
}

// Only what is seen, or nearly, is drawn: a page has many charts.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "600px" });

const figures = () => document.querySelectorAll("figure.chart");
const all = () => figures().forEach(draw);

document.documentElement.classList.add("draws");
figures().forEach((figure) => seen.observe(figure));
document.addEventListener("view:refreshed", () =>
  figures().forEach((figure) => (kept.has(figure.dataset.name) ? draw(figure) : seen.observe(figure))));
dark.addEventListener("change", all);
addEventListener("beforeprint", all);
