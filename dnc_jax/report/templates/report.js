"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line") };
  const clear = "rgba(0, 0, 0, 0)";
  return {
    layout: {
      paper_bgcolor: clear, plot_bgcolor: clear, xaxis: axis, yaxis: axis,
      font: { color: colour("--text"), family: "system-ui, sans-serif" },
      title: { font: { size: 13 } },
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
    },
  };
}

function draw(element) {
  const figure = page.figures[element.id];
  if (!figure || !element.offsetParent) return; // a hidden plot has no size yet
  const layout = { ...figure.layout, template: theme(), autosize: true };
  const known = element.data !== undefined;
  Plotly.react(element, figure.data, layout, { responsive: true, displaylogo: false });
  if (!known) {
    element.on("plotly_click", (event) => {
      const number = event.points[0].customdata;
      if (Number.isInteger(number)) show(number);
    });
  }
}

const plots = document.querySelectorAll(".plot");
// Drawn when they come near the window, one by one: opening takes the time of the first.
const waiting = new Set();
function drawNext() {
  const [first] = waiting;
  waiting.delete(first);
  if (!first.data) draw(first);
  if (waiting.size) setTimeout(drawNext);
}
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting || target.data) continue;
    if (!waiting.size) setTimeout(drawNext);
    waiting.add(target);
  }
}, { rootMargin: "300px" });

function row(cells) {
  const line = document.createElement("tr");
  for (const text of cells) line.insertCell().textContent = text;
  return line;
}

function show(number) {
  const trial = page.trials[number];
  if (!trial) return;
  byId("trial").dataset.shown = number;
  byId("trial-name").textContent = `Candidate ${number}: ${trial.network}`;
  byId("trial-details").hidden = false;
  byId("trial-rungs").tBodies[0].replaceChildren(...trial.rungs.map(row));
  byId("trial-fields").replaceChildren(...trial.fields.map(([name, value]) => {
    const entry = document.createElement("div");
    entry.append(document.createElement("dt"), document.createElement("dd"));
    entry.firstChild.textContent = name;
    entry.lastChild.textContent = value;
    return entry;
  }));
  const curve = byId("trial-curve").dataset;
  page.figures["trial-curve"] = {
    data: [{ y: trial.curve, x: trial.curve.map((_, i) => i + 1),
             mode: "lines+markers", line: { color: "#0072b2" } }],
    layout: { margin: { l: 60, r: 10, t: 10, b: 35 }, xaxis: { title: { text: "epoch" } },
              yaxis: { title: { text: curve.title }, tickformat: curve.format } },
  };
  draw(byId("trial-curve"));
}

document.querySelectorAll("[data-trial]").forEach((button) => {
  button.addEventListener("click", () => show(Number(button.dataset.trial)));
});
document.querySelectorAll("[role=tab]").forEach((tab) => {
  tab.addEventListener("click", () => {
    for (const other of tab.parentElement.children) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", chosen);
      byId(other.dataset.shows).parentElement.hidden = !chosen;
    }
    draw(byId(tab.dataset.shows));
  });
});
plots.forEach((plot) => near.observe(plot));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  [...plots].filter((plot) => plot.data).forEach(draw);
});
addEventListener("beforeprint", () => plots.forEach(draw));

const version = document.body.dataset.version;
if (version !== undefined) {
  setInterval(async () => {
    const answer = await fetch("version").catch(() => null); // the server has gone
    if (answer?.ok && await answer.text() !== version) location.reload();
  }, 2000);
}
