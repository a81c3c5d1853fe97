// The list of episodes: its index, filters, search and pages.
"use strict";

const ROWS = 20;
// The columns of the list: title, key, whether it is a number, whether a phone leaves it out.
const LIST = [
  ["episode", "id", false],
  ["played in", "source", false, true],
  ["step", "step", true, true],
  ["family", "family", false, true],
  ["task", "task", false, true],
  ["outcome", "outcome", false],
  ["return", "return", true],
  ["turns", "turns", true],
  ["refused", "refused", true, true],
  ["advantage", "advantage", true],
  ["training", "training", false, true],
];
// An episode is a row: {run, id, source, step, family, task, outcome, return, turns, ...}. Its
// source is "training" or the name of an evaluation.
let episodes = [];
let shown = [];
let sorting = { key: null, down: false };
let page = 0;
let searched = null; // The rows whose texts have the searched words; null without a search.
let searching = 0;
const chosen = {
  run: "",
  source: "",
  family: "",
  outcome: "",
  training: "",
  from: "",
  to: "",
  task: "",
  text: "",
};

async function readIndex() {
  const all = [];
  for (let run = 0; run < facts.runs.length; run++) {
    if (!facts.episodes[run]) continue;
    const columns = await unpacked("index-" + run);
    unpackedTexts.delete("index-" + run);
    const keys = Object.keys(columns);
    for (let i = 0; i < columns.id.length; i++) {
      const row = { run };
      for (const key of keys) row[key] = columns[key][i];
      all.push(row);
    }
  }
  return all;
}

function linkOf(row) {
  const run = facts.runs.length > 1 ? encodeURIComponent(facts.runs[row.run]) + ":" : "";
  return "#episode=" + run + row.id.split("/").map(encodeURIComponent).join("/");
}

const isEvaluated = (row) => row.source !== "training";

// The name of an episode without that of its evaluation, which stands beside it.
function shortId(row) {
  if (!isEvaluated(row)) return row.id;
  const [, repeat, line] = /(\d+)\/(\d+)$/.exec(row.id);
  return `repeat ${repeat}, line ${line}`;
}

// The episode that the address names; null if it names none.
function rowOfLink() {
  const named = /^#episode=(?:([^:]*):)?([^:]+\/\d+\/\d+)$/.exec(location.hash);
  if (!named) return null;
  const run = named[1] === undefined ? null : facts.runs.indexOf(decodeURIComponent(named[1]));
  const id = decodeURIComponent(named[2]);
  const row = episodes.find((each) => each.id === id && (run === null || each.run === run));
  return row || { missing: id };
}

function values(key) {
  return [...new Set(episodes.map((row) => row[key]))].sort();
}

function makeFilters() {
  const form = document.getElementById("filters");
  const labelled = (title, field) => make("label", {}, title, field);
  const changed = () => {
    page = 0;
    filter();
  };
  const select = (title, key, options) => {
    const field = make(
      "select",
      {
        id: "filter-" + key,
        on: {
          change: () => {
            chosen[key] = field.value;
            changed();
          },
        },
      },
      make("option", { value: "" }, "all"),
    );
    for (const [value, text] of options) field.append(make("option", { value }, text));
    if (options.length > 1) form.append(labelled(title, field));
  };
  const same = (key) => values(key).map((value) => [value, value]);
  select(
    "run",
    "run",
    facts.runs.map((name, run) => [String(run), name]),
  );
  // The training comes first.
  const sources = values("source").sort((a, b) => (b === "training") - (a === "training"));
  select(
    "played in",
    "source",
    sources.map((source) => [source, source]),
  );
  select("family", "family", same("family"));
  select("outcome", "outcome", same("outcome"));
  select("training", "training", same("training"));
  for (const [title, key] of [
    ["from step", "from"],
    ["to step", "to"],
  ]) {
    const field = make("input", {
      type: "number",
      min: 1,
      id: "filter-" + key,
      on: {
        input: () => {
          chosen[key] = field.value;
          changed();
        },
      },
    });
    form.append(labelled(title, field));
  }
  const task = make("input", {
    type: "search",
    id: "filter-task",
    placeholder: "part of its name",
    on: {
      input: () => {
        chosen.task = task.value.toLowerCase();
        changed();
      },
    },
  });
  form.append(labelled("task", task));
  const text = make("input", {
    type: "search",
    id: "filter-text",
    placeholder: "words in any text, then Enter",
    on: { search: () => search(text.value), change: () => search(text.value) },
  });
  form.append(labelled("observations and answers", text));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(text.value);
  });
}

function filter() {
  const from = chosen.from === "" ? -Infinity : Number(chosen.from);
  const to = chosen.to === "" ? Infinity : Number(chosen.to);
  shown = episodes.filter(
    (row) =>
      (chosen.run === "" || row.run === Number(chosen.run)) &&
      (chosen.source === "" || row.source === chosen.source) &&
      (chosen.family === "" || row.family === chosen.family) &&
      (chosen.outcome === "" || row.outcome === chosen.outcome) &&
      (chosen.training === "" || row.training === chosen.training) &&
      // An evaluation of another policy than a checkpoint's has no step.
      (row.step === null ? chosen.from + chosen.to === "" : row.step >= from && row.step <= to) &&
      (chosen.task === "" || row.task.toLowerCase().includes(chosen.task)) &&
      (searched === null || searched.has(row)),
  );
  if (sorting.key) {
    const key = sorting.key,
      sign = sorting.down ? -1 : 1;
    const place = (value) => (value === null ? -Infinity : value);
    shown = shown
      .slice()
      .sort(
        (a, b) =>
          sign * (place(a[key]) < place(b[key]) ? -1 : place(a[key]) > place(b[key]) ? 1 : 0),
      );
  }
  showList();
}

// Looks for words in all texts: every chunk is opened once, one after the other.
async function search(words) {
  const wanted = words.trim().toLowerCase();
  if (wanted === chosen.text) return;
  chosen.text = wanted;
  const mine = ++searching;
  page = 0;
  searched = null;
  if (wanted === "") return filter();
  const chunks = new Map();
  for (const row of episodes) {
    const name = `episodes-${row.run}-${row.chunk}`;
    if (!chunks.has(name)) chunks.set(name, []);
    chunks.get(name).push(row);
  }
  const found = new Set();
  let done = 0;
  for (const [name, rows] of chunks) {
    const chunk = await unpacked(name);
    forgetAllBut(8);
    if (mine !== searching) return;
    const having = new Set();
    chunk.texts.forEach((text, i) => {
      if (text.toLowerCase().includes(wanted)) having.add(i);
    });
    for (const row of rows) {
      const episode = chunk.episodes[row.place];
      const texts = [episode.last, episode.error];
      for (const turn of episode.turns) texts.push(turn.o, turn.x);
      if (texts.some((index) => having.has(index))) found.add(row);
    }
    done += 1;
    document.getElementById("found").textContent =
      `searching: ${done} of ${chunks.size} parts, ${found.size} episodes`;
  }
  searched = found;
  filter();
}

function showList() {
  const pages = Math.max(1, Math.ceil(shown.length / ROWS));
  page = Math.min(Math.max(page, 0), pages - 1);
  document.getElementById("found").textContent =
    `${shown.length.toLocaleString("en")} of ${episodes.length.toLocaleString("en")} episodes`;
  const head = document.querySelector("#list thead");
  const hasEvaluated = episodes.some(isEvaluated);
  const columns = LIST.filter(([, key]) => key !== "source" || hasEvaluated);
  if (facts.runs.length > 1) columns.unshift(["run", "run", false]);
  const sortBy = (key) => () => {
    sorting = { key, down: sorting.key === key && !sorting.down };
    filter();
  };
  const arrow = (key) => (sorting.key === key ? (sorting.down ? " \u2193" : " \u2191") : "");
  head.replaceChildren(
    make(
      "tr",
      {},
      ...columns.map(([title, key, isNumber, wide]) =>
        make(
          "th",
          { class: (isNumber ? "number " : "") + (wide ? "wide" : ""), on: { click: sortBy(key) } },
          title + arrow(key),
        ),
      ),
    ),
  );
  const here = rowOfLink();
  const rows = shown.slice(page * ROWS, (page + 1) * ROWS).map((row) =>
    make(
      "tr",
      {
        class: row === here ? "here" : "",
        on: {
          click: () => {
            location.hash = linkOf(row);
          },
        },
      },
      ...columns.map(([, key, isNumber, wide]) => cell(row, key, isNumber, wide)),
    ),
  );
  document.querySelector("#list tbody").replaceChildren(...rows);
  const turn = (by) => () => {
    page += by;
    showList();
  };
  document
    .getElementById("pages")
    .replaceChildren(
      make(
        "button",
        { type: "button", disabled: page === 0, on: { click: turn(-1) } },
        "page before",
      ),
      make("span", { class: "quiet" }, `page ${page + 1} of ${pages}`),
      make(
        "button",
        { type: "button", disabled: page + 1 >= pages, on: { click: turn(1) } },
        "next page",
      ),
    );
}

function cell(row, key, isNumber, wide) {
  const isLong = key === "task" || key === "source";
  const classes = [isNumber ? "number" : "", wide ? "wide" : "", isLong ? "long" : ""];
  let value = row[key];
  if (key === "run") value = facts.runs[row.run];
  if (key === "id") value = make("a", { href: linkOf(row) }, shortId(row));
  if (key === "outcome") classes.push(row.outcome === "success" ? "good" : "bad");
  if (typeof value === "number") value = number(value);
  return make("td", { class: classes.join(" ").trim() }, value === null ? "" : value);
}

async function showEpisodes() {
  if (!facts.episodes.some((count) => count > 0)) return;
  episodes = await readIndex();
  document.getElementById("browser").hidden = false;
  makeFilters();
  filter();
  addEventListener("hashchange", followLink);
  await followLink();
}

async function followLink() {
  const row = rowOfLink();
  if (row === null) return;
  if (row.missing) {
    return complain(
      `episode ${row.missing} is not in this page: its file is gone, or it was not sampled`,
    );
  }
  document.getElementById("problem").hidden = true;
  // The list turns to the page that has it.
  const place = shown.indexOf(row);
  if (place >= 0) page = Math.floor(place / ROWS);
  showList();
  await showEpisode(row).catch(complain);
}
