"use strict";
// Draws the charts that stand in the page as JSON, in the page's own colours, and again when the
// reader's system turns dark or light.
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const rows = {
    light: ["#2563c9", "#c2570c", "#17803d", "#c08a00", "#8e44ad", "#0e8a94", "#c62f6b", "#5b6472"],
    dark: ["#7fb0ff", "#f2a35e", "#4ac27b", "#e0b84a", "#c792ea", "#56c7d0", "#f07ba5", "#aab3c2"],
  };

  function dressed(plot) {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    const row = rows[dark.matches ? "dark" : "light"];
    const colour = (n) => row[n % row.length];
    const traces = plot.traces.map((trace) =>
      Array.isArray(trace.meta)
        ? { ...trace, marker: { color: trace.meta.map(colour) } }
        : {
            ...trace,
            line: { ...trace.line, color: colour(trace.meta) },
            marker: { ...trace.marker, color: colour(trace.meta) },
          });
    const axis = { gridcolor: value("--line"), zerolinecolor: value("--line"), automargin: true };
    const given = plot.layout;
    const layout = {
      showlegend: true,
      ...given,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: value("--text") },
      margin: { l: 8, r: 12, t: 8, b: 8 },
      legend: { orientation: "h", x: 0, y: -0.14, yanchor: "top" },
      hoverlabel: { bgcolor: value("--card"), bordercolor: value("--line"), namelength: -1 },
      xaxis: { ...axis, ...given.xaxis },
      yaxis: { ...axis, separatethousands: true, ...given.yaxis },
      shapes: (given.shapes || []).map((shape) => ({
        ...shape, line: { ...shape.line, color: value("--pale") },
      })),
      annotations: (given.annotations || []).map((note) => ({
        ...note, font: { ...note.font, color: value("--pale") },
      })),
    };
    return [traces, layout];
  }

  function draw() {
    plots.forEach((plot, n) => {
      Plotly.react(`plot-${n}`, ...dressed(plot), {
        responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false,
      });
    });
  }

  dark.addEventListener("change", draw);
  draw();
})();
