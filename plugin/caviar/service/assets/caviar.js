"use strict";
// Pages work without this file; with it they move, and their forms answer in place.

const byId = (id) => document.getElementById(id);

function studyPath(name, rest) {
  return "/v1/studies/" + encodeURIComponent(name) + rest;
}

/** Send a request that may change something; return its answer, or throw what the service said. */
async function send(method, path, body, type) {
  const headers = { "X-Caviar": "1" };
  if (type) headers["Content-Type"] = type;
  const answer = await fetch(path, { method, headers, body, credentials: "same-origin" });
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  const value = isJson ? await answer.json() : await answer.text();
  if (answer.ok) return value;
  const error = (value && value.error) || {};
  const said = new Error([error.message || "The service answered " + answer.status + ".", error.way_out].filter(Boolean).join(" "));
  said.status = answer.status;
  throw said;
}

const sendJson = (method, path, value) => send(method, path, JSON.stringify(value), "application/json");

/** Say something in a live region; only text, so that nothing in it is ever taken for HTML. */
function say(where, text, isError) {
  where.textContent = text;
  where.classList.toggle("error", Boolean(isError));
}

/** What Plotly shows may hold tags of its own kind: text that others wrote is shown as it is. */
function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** Do something once at a time, and say what went wrong. */
async function guarded(button, where, work) {
  const hadFocus = document.activeElement === button;
  if (button) button.disabled = true;
  say(where, "…");
  try {
    await work();
  } catch (error) {
    say(where, error.message, true);
  } finally {
    if (button) button.disabled = false;
    if (hadFocus && document.activeElement === document.body) button.focus(); // a disabled one loses it
  }
}

// What is marked data-live is taken from the page as the server would give it now -------------------------------------

function takeOver(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (!now || now.innerHTML === part.dataset.seen) continue;
    if (part.contains(document.activeElement) && document.activeElement !== part) continue; // the user is in it
    part.dataset.seen = now.innerHTML;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    const chosen = part.value;
    part.innerHTML = now.innerHTML;
    part.querySelectorAll("details").forEach((one, index) => { one.open = Boolean(open[index]); });
    if (part.tagName === "SELECT" && [...part.options].some((one) => one.value === chosen)) part.value = chosen;
  }
}

async function refresh() {
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected && answer.url.includes("/login")) location.assign("/login");
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (document.body.dataset.reloadWhen && fresh.body.dataset[document.body.dataset.reloadWhen]) location.reload();
      takeOver(fresh);
    }
    byId("offline").hidden = true;
  } catch {
    byId("offline").hidden = false;
  }
}

function keepRefreshing() {
  const seconds = Number(document.body.dataset.refresh);
  if (!seconds) return;
  const next = async () => {
    if (!document.hidden) await refresh();
    setTimeout(next, 1000 * seconds);
  };
  setTimeout(next, 1000 * Math.min(seconds, 1));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

// Learning curves -----------------------------------------------------------------------------------------------------

class Curves {
  constructor(chart, metric) {
    this.chart = chart;
    this.metric = metric;
    this.trials = new Map(); // number → {state, points: Map(step → value)}
    this.events = [];
    this.pending = false;
  }

  take(trials) {
    for (const one of trials) {
      const known = this.trials.get(one.number) || { points: new Map() };
      known.state = one.state;
      known.changes = one.changes;
      if (one.whole) known.points = new Map();
      for (const [step, value] of one.values) known.points.set(step, value);
      this.trials.set(one.number, known);
    }
    if (!this.pending) {
      this.pending = true;
      setTimeout(() => { this.pending = false; this.draw(); }, 400);
    }
  }

  draw() {
    if (!window.Plotly) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ended = { x: [], y: [], text: [], n: 0 };
    const marks = { x: [], y: [], text: [] };
    const traces = [];
    const chosen = byId("control-trial") ? byId("control-trial").value : "";
    const palette = ["#2b8cbe", "#d98e04", "#7b5ea7", "#2f9e6e", "#c2513d", "#5b7f95", "#b0569a", "#8a8f2a"];
    for (const [number, trial] of [...this.trials].sort((a, b) => a[0] - b[0])) {
      const steps = [...trial.points.keys()].sort((a, b) => a - b);
      const values = steps.map((step) => trial.points.get(step));
      for (const [epoch, words] of trial.changes || []) {
        const at = Math.min(Math.max(epoch - 1, 0), steps.length - 1); // after so many epochs
        if (at < 0) continue;
        marks.x.push(steps[at]);
        marks.y.push(values[at]);
        marks.text.push(escaped("trial " + number + ", " + words));
      }
      if (trial.state === "running") {
        traces.push({
          x: steps, y: values, name: "trial " + number, mode: "lines+markers", type: "scatter",
          line: { width: String(number) === chosen ? 5 : 2, color: palette[number % palette.length] }, marker: { size: 5 },
        });
      } else if (steps.length) {
        ended.x.push(...steps, null);
        ended.y.push(...values, null);
        ended.text.push(...steps.map(() => "trial " + number), "");
        ended.n += 1;
      }
    }
    traces.unshift({
      x: ended.x, y: ended.y, text: ended.text, name: "not running", mode: "lines", type: "scatter", hoverinfo: "text+y",
      line: { width: 1, color: colour("--faint") }, opacity: 0.35, connectgaps: false,
    });
    const running = traces.length - 1;
    if (marks.x.length) {
      traces.push({
        x: marks.x, y: marks.y, text: marks.text, name: "changed by hand", mode: "markers", type: "scatter", hoverinfo: "text",
        marker: { symbol: "diamond", size: 12, color: colour("--warm"), line: { width: 1, color: colour("--paper") } },
      });
    }
    const axis = { gridcolor: colour("--line"), zeroline: false, automargin: true };
    const layout = {
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 10, t: 10, b: 45 }, showlegend: traces.length > 1 && traces.length < 9, legend: { orientation: "h", y: -0.2 },
      hovermode: "closest",
      xaxis: { ...axis, title: { text: "epoch, from 0" }, rangemode: "tozero" },
      yaxis: { ...axis, title: { text: this.metric } }, uirevision: "kept",
    };
    window.Plotly.react(this.chart, traces, layout, { responsive: true, displayModeBar: false });
    const points = [...this.trials.values()].reduce((sum, trial) => sum + trial.points.size, 0);
    this.chart.dataset.points = String(points);
    this.chart.dataset.running = String(running);
    this.chart.dataset.changes = String(marks.x.length);
    byId("curves-text").textContent =
      running + " trials are running, " + ended.n + " have ended or are paused. Running trials are drawn in " +
      "colour and move as they learn; the others are grey. A diamond marks a change by hand. A table below holds the running ones.";
  }
}

async function showCurves() {
  const chart = byId("curves");
  const name = document.body.dataset.study;
  if (!chart || !name) return;
  const curves = new Curves(chart, document.body.dataset.metric);
  curves.draw();
  if (byId("control-trial")) byId("control-trial").addEventListener("change", () => curves.draw());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => curves.draw());
  const stream = new EventSource(studyPath(name, "/stream"));
  const take = (event) => curves.take(JSON.parse(event.data).trials);
  stream.addEventListener("picture", take);
  stream.addEventListener("update", take);
  stream.addEventListener("gone", (event) => {
    stream.close();
    say(byId("curves-said"), JSON.parse(event.data).message, true);
  });
  stream.onopen = () => say(byId("curves-said"), "");
  stream.onerror = () => say(byId("curves-said"), stream.readyState === EventSource.CLOSED
    ? "The curves of this study cannot be watched as they grow."
    : "The connection was lost; it is tried again.");
  window.addEventListener("pagehide", () => stream.close());
  try {
    const answer = await fetch(studyPath(name, "/curves"), { credentials: "same-origin" });
    if (answer.ok) curves.take(await answer.json());
  } catch (error) {
    say(byId("curves-said"), "Curves of ended trials could not be read: " + error.message, true);
  }
}

// The form for a study file -------------------------------------------------------------------------------------------

/** Store a file under its name, or one like it where that is taken: a study must find the data it was begun with. */
async function upload(file) {
  const [, stem, suffix] = /^(.*?)(\.[A-Za-z]+)?$/.exec(file.name);
  const plain = stem.replace(/[^A-Za-z0-9_-]/g, "_").replace(/^[^A-Za-z0-9]+/, "").slice(0, 60) || "table";
  const names = [plain, plain + "-" + Date.now().toString(36)].map((name) => name + (suffix || "").toLowerCase());
  for (const name of names) {
    try {
      return (await send("PUT", "/v1/uploads/" + encodeURIComponent(name), file, "application/octet-stream")).name;
    } catch (error) {
      if (error.status !== 409 || name === names[1]) throw error;
    }
  }
}

function showNewForm() {
  const form = byId("study-form");
  if (!form) return;
  const text = byId("text");
  const said = byId("said");
  byId("check").addEventListener("click", (event) => guarded(event.target, said, async () => {
    const answer = await send("POST", "/v1/validate", text.value, "application/toml");
    const { search, objective, data } = answer.file;
    say(said, answer.study + " is valid: " + search.trials + " trials of at most " + objective.epochs + " epochs on " +
      data.dataset.split("/").pop() + ", sampler " + search.sampler + ", pruner " + search.pruner + ".");
  }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(event.submitter, said, async () => {
      const query = byId("fresh").checked ? "?fresh=true" : "";
      const answer = await send("POST", "/v1/studies" + query, text.value, "application/toml");
      location.assign("/studies/" + encodeURIComponent(answer.study));
    });
  });
  const table = byId("table-form");
  table.addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(event.submitter, byId("table-said"), async () => {
      const file = byId("file").files[0];
      if (file.size > Number(table.dataset.mostBytes)) throw new Error("The file is too large.");
      const stored = await upload(file);
      const lines = ["name = " + JSON.stringify(byId("name").value), "", "[data]", "dataset = " + JSON.stringify(stored)];
      if (byId("label").value) lines.push("label = " + JSON.stringify(byId("label").value));
      lines.push("", "[search]", "trials = " + Number(byId("trials").value), "");
      text.value = lines.join("\n");
      say(byId("table-said"), "The file is there as " + stored + ". The study file above names it: check it, then start it.");
      text.focus();
    });
  });
}

// Actions on a study --------------------------------------------------------------------------------------------------

function showActions() {
  const name = document.body.dataset.study;
  const actions = byId("actions");
  if (!name || !actions) return;
  const said = byId("action-said");
  actions.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (!button) return;
    const work = {
      stop: async () => {
        await send("POST", "/v1/runs/" + encodeURIComponent(button.dataset.run) + "/stop");
        say(said, "The run ends after the current epoch. Its trials go on when the study is started again.");
      },
      report: async () => {
        say(said, "The report is being written …");
        await send("POST", studyPath(name, "/report"));
        say(said, "The report is written.");
      },
      champion: async () => {
        await sendJson("POST", studyPath(name, "/champion"), {});
        say(said, "The race has begun: the best trials are trained again, over several seeds.");
      },
    }[button.dataset.action];
    guarded(button, said, work).then(refresh);
  });
}

function showControl() {
  const form = byId("control-form");
  if (!form) return;
  const action = byId("control-action");
  const show = () => {
    for (const part of form.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(action.value);
  };
  action.addEventListener("change", show);
  show();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(event.submitter, byId("control-said"), async () => {
      const number = byId("control-trial").value;
      if (number === "") throw new Error("No trial is running.");
      const wish = { action: action.value, who: "browser" };
      const value = byId("control-value").value;
      if (["set", "fork"].includes(wish.action) && value !== "") wish.values = { [byId("control-name").value]: Number(value) };
      if (["set", "epochs", "back"].includes(wish.action) && value === "") throw new Error("Give a value.");
      if (wish.action === "epochs") wish.epochs = Number(value);
      if (wish.action === "back") wish.epoch = Number(value);
      const path = studyPath(document.body.dataset.study, "/trials/" + number + "/control");
      const answer = await sendJson("POST", path, wish);
      say(byId("control-said"), answer.message);
      await refresh();
    });
  });
}

function showPrediction() {
  const form = byId("predict-form");
  if (!form) return;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = byId("predict-said");
    guarded(event.submitter, said, async () => {
      const file = byId("predict-file").files[0];
      const path = "/v1/champions/" + encodeURIComponent(document.body.dataset.study) + "/predict-file?format=" + encodeURIComponent(file.name.split(".").pop().toLowerCase());
      const answer = await send("POST", path, file, "application/octet-stream");
      const rows = answer.trim().split("\n").slice(1).map((line) => line.split(",")[0]); // as CSV: label, probabilities
      say(said, rows.length + " predicted: " + rows.slice(0, 20).join(", ") + (rows.length > 20 ? ", …" : ""));
    });
  });
}

document.addEventListener("DOMContentLoaded", () => {
  keepRefreshing();
  showCurves();
  showNewForm();
  showActions();
  showControl();
  showPrediction();
});
