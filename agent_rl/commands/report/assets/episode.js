// One episode: its facts, its group, its task over training, its room, its turns.
"use strict";

async function showEpisode(row) {
  const chunk = await unpacked(`episodes-${row.run}-${row.chunk}`);
  forgetAllBut(8);
  const texts = await unpacked(`tokens-${row.run}`);
  const episode = chunk.episodes[row.place];
  const look = {
    row,
    episode,
    text: (index) => chunk.texts[index],
    chunk,
    token: (id) => (texts[id] === undefined ? `\u27e8${id}\u27e9` : texts[id]),
  };
  const host = document.getElementById("episode");
  const turns = make("div", { id: "turns" });
  const side = make(
    "div",
    { class: "side" },
    episode.room ? partOf("Its way through the room", roomOf(look)) : null,
    partOf(
      isEvaluated(row) ? "The same game in evaluations" : "The same task over training",
      taskOf(look),
    ),
  );
  host.replaceChildren(
    headOf(look),
    partOf(isEvaluated(row) ? "The same game in each repeat" : "Its group", groupOf(look)),
    side,
    make("h4", {}, "Turn by turn"),
    colourBar(look, turns),
    turns,
  );
  host.hidden = false;
  showTurns(look, turns);
  host.scrollIntoView({ block: "start" });
}

function partOf(title, content) {
  return make("div", {}, make("h4", {}, title), content);
}

function headOf({ row, episode, text }) {
  const place = shown.indexOf(row);
  const step = (by, title) => {
    const other = place < 0 ? undefined : shown[place + by];
    return make(
      "button",
      {
        type: "button",
        disabled: !other,
        on: {
          click: () => {
            location.hash = linkOf(other);
          },
        },
      },
      title,
    );
  };
  const won = row.outcome === "success";
  const trained =
    row.training === "trained" ? `trained, advantage ${number(row.advantage)}` : row.training;
  const lines = [
    make(
      "div",
      { class: "bar" },
      make("h3", {}, "Episode ", make("a", { href: linkOf(row) }, row.id)),
      make("span", { class: "tag " + (won ? "good" : "bad") }, row.outcome),
      make("span", {}, `return ${number(row.return)}`),
      make("span", {}, trained),
      make("span", {}, `${row.turns} turns, ${row.refused} refused`),
      step(-1, "before"),
      step(1, "next"),
    ),
    make(
      "p",
      { class: "quiet path" },
      facts.runs.length > 1 ? `${facts.runs[row.run]}, ` : "",
      `${row.family}: ${row.task}`,
    ),
  ];
  if (text(episode.error)) lines.push(make("p", { class: "warning text" }, text(episode.error)));
  return make("div", {}, ...lines);
}

// The members of the group side by side; the first command that differs from this episode's is
// marked.
function groupOf({ row, chunk, episode, text }) {
  const groupId = row.id.slice(0, row.id.lastIndexOf("/") + 1);
  const isMember = isEvaluated(row)
    ? (each) => each.task === row.task
    : (each) => each.id.startsWith(groupId);
  const members = episodes.filter(
    (each) => each.run === row.run && each.source === row.source && isMember(each),
  );
  const commandsOf = (each) =>
    each.turns
      .filter((turn) => (turn.k || "action") === "action")
      .map((turn) => ({ said: text(turn.c ?? turn.x), refused: turn.refused }));
  const own = commandsOf(episode);
  const host = make("div", { class: "members" });
  for (const member of members) {
    const commands = commandsOf(chunk.episodes[member.place]);
    const apart = commands.findIndex((each, i) => !own[i] || own[i].said !== each.said);
    host.append(
      make(
        "div",
        { class: "member" + (member === row ? " here" : "") },
        make("a", { href: linkOf(member) }, shortId(member)),
        " ",
        make("span", { class: member.outcome === "success" ? "good" : "bad" }, member.outcome),
        make(
          "div",
          {},
          `return ${number(member.return)}, ` +
            (member.advantage === null ? member.training : `advantage ${number(member.advantage)}`),
        ),
        make(
          "ol",
          {},
          ...commands.map((each, i) =>
            make(
              "li",
              {
                class:
                  (each.refused ? "refused " : "") + (i === apart && member !== row ? "apart" : ""),
              },
              each.said || make("span", { class: "quiet" }, "(nothing)"),
            ),
          ),
        ),
      ),
    );
  }
  return host;
}

// The returns of all episodes of the task, by rollout step: of the training, or of evaluations.
function taskOf({ row }) {
  if (row.step === null) return make("p", { class: "quiet" }, "Its policy has no rollout step.");
  const isLike = (each) => each.step !== null && isEvaluated(each) === isEvaluated(row);
  const same = episodes.filter(
    (each) => each.run === row.run && each.task === row.task && isLike(each),
  );
  const width = 640,
    height = 120,
    left = 34,
    bottom = 22,
    top = 10;
  const steps = same.map((each) => each.step),
    returns = same.map((each) => each.return);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...returns), Math.max(...returns)];
  const room = width - left - 80;
  const x = (step) => left + 24 + (last > first ? (step - first) / (last - first) : 0.5) * room;
  const y = (value) =>
    top + (high > low ? (high - value) / (high - low) : 0.5) * (height - top - bottom);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "over", role: "img" });
  svg.append(
    draw("line", { x1: left, x2: width, y1: height - bottom, y2: height - bottom, class: "axis" }),
  );
  for (const value of new Set([low, high])) {
    svg.append(
      draw(
        "text",
        { x: left - 6, y: y(value) + 4, "text-anchor": "end", class: "quiet" },
        number(value),
      ),
    );
  }
  for (const step of new Set([first, last])) {
    svg.append(
      draw(
        "text",
        { x: x(step), y: height - 6, "text-anchor": "middle", class: "quiet" },
        `step ${step}`,
      ),
    );
  }
  const places = new Map();
  for (const each of same) {
    // Equal episodes stand side by side.
    const key = `${each.step} ${each.return}`;
    const before = places.get(key) || 0;
    places.set(key, before + 1);
    const circle = draw("circle", {
      cx: x(each.step) + 5 * before - 18,
      cy: y(each.return),
      r: 4,
      class: (each.outcome === "success" ? "won" : "lost") + (each === row ? " here" : ""),
    });
    circle.append(draw("title", {}, `${each.id}: ${each.outcome}, return ${number(each.return)}`));
    circle.addEventListener("click", () => {
      location.hash = linkOf(each);
    });
    svg.append(circle);
  }
  const said =
    same.length === 1
      ? "the only episode of it in this page"
      : `${same.length} episodes of it in this page`;
  return make("div", {}, svg, make("p", { class: "quiet small" }, said));
}

function colourBar(look, turns) {
  const names = Object.keys(quantitiesOf(look.episode));
  if (!names.includes(quantity)) quantity = names[0];
  const field = make(
    "select",
    {
      id: "quantity",
      on: {
        change: () => {
          quantity = field.value;
          showTurns(look, turns);
        },
      },
    },
    ...names.map((name) => make("option", { value: name, selected: name === quantity }, name)),
  );
  return make(
    "div",
    { class: "bar" },
    make("label", { class: "legend" }, "colour of the agent's tokens ", field),
    make("span", { class: "legend", id: "legend" }),
  );
}

function showTurns(look, host) {
  const turns = look.episode.turns,
    chosen = quantitiesOf(look.episode)[quantity];
  const values = turns.map((turn) => chosen.of(turn));
  // Tokens that were not trained have no colour, so their numbers do not stretch the legend.
  const coloured = turns.map((turn, i) =>
    values[i].filter((_, k) => isColoured(look.row, turn, k)),
  );
  const range = rangeOfValues(chosen, coloured.flat());
  const hasUntrained = coloured.flat().length < values.flat().length;
  document.getElementById("legend").replaceChildren(...legendOf(chosen, range, hasUntrained));
  const colours = turns.map((turn, i) => values[i].map((value) => colourOf(chosen, value, range)));
  host.replaceChildren(...turns.map((turn, i) => turnOf(look, turn, i, colours[i])));
  if (look.text(look.episode.last)) {
    host.append(
      make(
        "div",
        { class: "turn" },
        make("div", { class: "head" }, "the last observation"),
        make("div", { class: "body text" }, look.text(look.episode.last)),
      ),
    );
  }
}

function turnOf(look, turn, index, colours) {
  const told = make("div", { class: "told" });
  const agent = make("div", { class: "tokens agent" });
  turn.i.forEach((id, i) => {
    const span = make("span", { title: aboutToken(look, turn, i) }, look.token(id));
    if (!isColoured(look.row, turn, i)) span.className = "plain";
    else if (colours[i]) span.style.background = colours[i];
    span.addEventListener("click", () => {
      agent.querySelectorAll(".picked").forEach((other) => other.classList.remove("picked"));
      span.classList.add("picked");
      told.textContent = aboutToken(look, turn, i);
    });
    agent.append(span);
  });
  const prompt = make(
    "details",
    { class: "prompt" },
    make(
      "summary",
      {},
      `${turn.n ? "a new prompt" : "the prompt gained"}: ${tokensOf(turn.p)}, not trained`,
    ),
  );
  prompt.addEventListener("toggle", () => {
    if (prompt.childElementCount === 1) {
      prompt.append(make("div", { class: "tokens" }, turn.p.map(look.token).join("")));
    }
  });
  const kindOf = { thought: "a thought that was cut off", summary: "a summary" }[turn.k];
  const head = make(
    "div",
    { class: "head" },
    make("b", {}, `turn ${index + 1}`),
    kindOf ? make("span", { class: "tag" }, kindOf) : null,
    turn.unread ? make("span", { class: "tag bad" }, "no command in it") : null,
    turn.refused && !turn.unread ? make("span", { class: "tag bad" }, "refused") : null,
    turn.f === "length" ? make("span", { class: "tag bad" }, "cut off by its token limit") : null,
    turn.f === "stop_text" ? make("span", { class: "tag" }, "ended by a stop text") : null,
    turn.r
      ? make("span", { class: turn.r > 0 ? "good" : "bad" }, `reward ${number(turn.r)}`)
      : null,
    turn.a === undefined ? null : make("span", {}, `advantage ${number(turn.a)}`),
    turn.g || isEvaluated(look.row)
      ? null
      : make("span", { class: "quiet" }, "not trained"),
    make(
      "span",
      { class: "quiet" },
      `${tokensOf(turn.i)}, log-prob ${number(sum(turn.l) * NATS)}`,
    ),
  );
  return make(
    "div",
    { class: "turn" },
    head,
    make(
      "div",
      { class: "body" },
      make("div", { class: "text" }, look.text(turn.o)),
      prompt,
      agent,
      told,
    ),
  );
}

function tokensOf(ids) {
  return ids.length === 1 ? "1 token" : `${ids.length} tokens`;
}

function sum(numbers) {
  return numbers.reduce((total, each) => total + each, 0);
}
