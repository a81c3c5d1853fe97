// The quantities that may colour the agent's tokens, their colours, and the legend.
"use strict";

const NATS = 1e-4;
// How a value becomes a colour:
//   probability  of a log-prob: strong if the token was unlikely
//   around       blue below the middle, orange above
//   low, high    strong at this end
//   bound        one colour for each bound
const BOUNDS = [
  ["", "not clipped"],
  ["low", "ratio too low at A < 0", "cold"],
  ["high", "ratio too high at A > 0", "warm"],
  ["dual", "ratio far too high at A < 0", "third"],
];
const QUANTITIES = {
  "log-prob": {
    of: (turn) => turn.l.map((l) => l * NATS),
    about: "the sampler's probability",
    colour: "probability",
  },
  advantage: {
    of: (turn) => turn.i.map(() => turn.a ?? null),
    about: "of the turn",
    colour: "around",
  },
  version: { of: versionsOf, about: "of the weights that sampled it", colour: "low" },
};
// Those of the time of training, where the run kept them for each token.
const RECORDED = {
  ratio: { about: "new over old probability", colour: "around", middle: 1 },
  clipped: { about: "the bound that removed its gradient", colour: "bound" },
  weight: { about: "orange raises its probability, blue lowers it", colour: "around" },
  entropy: { about: "nats, of its distribution", colour: "high" },
  mismatch: { about: "nats, the learner's log-prob less the sampler's", colour: "around" },
  kl: { about: "nats, to the reference", colour: "high" },
  staleness: { about: "versions that its weights were behind", colour: "high" },
};
for (const [name, each] of Object.entries(RECORDED)) each.of = (turn) => recorded(turn, name);
let quantity = "log-prob";

function versionsOf(turn) {
  const versions = [];
  turn.v.forEach(([version, start], i) => {
    const end = i + 1 < turn.v.length ? turn.v[i + 1][1] : turn.i.length;
    for (let k = start; k < end; k++) versions.push(version);
  });
  return versions;
}

// A number for each token of a turn. One that all share is stored once, and 0 for all not at all.
function recorded(turn, name) {
  if (!turn.t) return turn.i.map(() => null);
  const stored = turn.t[name] ?? 0;
  return Array.isArray(stored) ? stored : turn.i.map(() => stored);
}

// The quantities that an episode has numbers of, by name.
function quantitiesOf(episode) {
  const all = { ...QUANTITIES };
  if (episode.turns.every((turn) => turn.a === undefined)) delete all.advantage;
  const known = episode.turns.filter((turn) => turn.t);
  if (!known.length) return all;
  Object.assign(all, RECORDED);
  if (known.every((turn) => turn.t.kl === undefined)) delete all.kl;
  return all;
}

function rangeOfValues(each, all) {
  const known = all.filter((value) => value !== null);
  if (!known.length) return null;
  if (each.colour === "probability") return [-Infinity, 0];
  if (each.colour === "high") return [0, Math.max(...known)];
  if (each.colour === "low") return [Math.min(...known), Math.max(...known)];
  const middle = each.middle ?? 0;
  const far = Math.max(...known.map((value) => Math.abs(value - middle)));
  return [middle - far, middle + far];
}

// The colour of a value, or null for none. A log-prob has the same in every episode.
function colourOf(each, value, range) {
  if (value === null || range === null) return null;
  if (each.colour === "probability") return tint("warm", 0.8 * (1 - Math.exp(value)));
  if (each.colour === "bound") return value ? tint(BOUNDS[value][2], 0.6) : null;
  const [low, high] = range;
  if (!(high > low)) return null;
  const share = (value - low) / (high - low);
  if (each.colour === "low") return tint("warm", 0.75 * (1 - share));
  if (each.colour === "high") return tint("warm", 0.75 * share);
  return tint(share > 0.5 ? "warm" : "cold", 1.5 * Math.abs(share - 0.5));
}

function tint(name, strength) {
  return `rgba(var(--${name}), ${strength.toFixed(3)})`;
}

// What the colours mean: a bar from the least to the greatest value, or a patch for each bound.
function legendOf(each, range, hasUntrained) {
  const parts = [];
  if (range !== null && each.colour === "bound") parts.push(`${each.about}:`, ...patchesOfBounds());
  else if (range !== null) parts.push(...barOf(each, range), each.about);
  if (hasUntrained) parts.push(patchOf({ class: "patch plain" }, "not trained"));
  return parts.map((part) => (typeof part === "string" ? make("span", {}, part) : part));
}

function barOf(each, range) {
  if (each.colour !== "probability" && !(range[1] > range[0])) {
    return [`${number(range[0])} for all tokens:`];
  }
  const isProbability = each.colour === "probability";
  const stops = isProbability
    ? [Math.log(1e-6), Math.log(0.5), 0]
    : [range[0], (range[0] + range[1]) / 2, range[1]];
  const colours = stops.map((value) => colourOf(each, value, range) || "transparent");
  return [
    isProbability ? "0" : number(range[0]),
    make("i", { style: `background: linear-gradient(to right, ${colours.join(", ")})` }),
    isProbability ? "1" : number(range[1]),
  ];
}

function patchesOfBounds() {
  return BOUNDS.map(([, said, name]) => {
    const style = name ? `background: ${tint(name, 0.6)}` : null;
    return patchOf({ class: "patch", style }, said);
  });
}

// A patch of a colour with its meaning, which stay together on a narrow screen.
function patchOf(attributes, said) {
  return make("span", { class: "meaning" }, make("i", attributes), said);
}

// Whether a token went through the learner and counted in its loss.
function isTrained(turn, i) {
  return Boolean(turn.g) && !recorded(turn, "left_out")[i];
}

// Whether a token has a colour: an evaluation trains nothing, so there all have one.
function isColoured(row, turn, i) {
  return isEvaluated(row) || isTrained(turn, i);
}

// All numbers of a token, in a line.
function aboutToken(look, turn, i) {
  const told = [`token ${turn.i[i]}`];
  if (!isColoured(look.row, turn, i)) told.push("not trained");
  for (const [name, each] of Object.entries(quantitiesOf(look.episode))) {
    const value = each.of(turn)[i];
    if (value === null || value === undefined) continue;
    if (name === "clipped") told.push(value ? `clipped ${BOUNDS[value][0]}` : "not clipped");
    else told.push(`${name} ${number(value, 7)}`);
  }
  if (turn.t) {
    told.push(`share of the loss ${number(recorded(turn, "share")[i], 7)}`);
    if (recorded(turn, "left_out")[i]) told.push("left out of the loss");
    if (recorded(turn, "capped")[i]) told.push("weight cut by the cap");
  }
  return told.join(", ");
}
