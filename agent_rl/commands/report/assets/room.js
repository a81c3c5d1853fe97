// The drawing of a room: its places along the walls, the agent's way between them.
"use strict";

const ROOM_WIDTH = 640;
const LABEL_LINES = 3; // Of what was done at a place.

// A spot for each of n places, clockwise from the upper left: {x, y, up}. `up`: labels are above.
function spotsOf(n) {
  const top = Math.min(3, Math.ceil(n / 4));
  const bottom = n - top <= 2 ? 0 : top;
  const right = Math.ceil((n - top - bottom) / 2);
  const left = n - top - bottom - right;
  const height = 150 + 56 * Math.max(right, left);
  const across = (k, of) => (ROOM_WIDTH * (k + 1)) / (of + 1);
  const down = (k, of) => 75 + ((height - 130) * (k + 0.5)) / of;
  const spots = [];
  for (let k = 0; k < top; k++) spots.push({ x: across(k, top), y: 50, up: true });
  for (let k = 0; k < right; k++) spots.push({ x: ROOM_WIDTH - 60, y: down(k, right) });
  for (let k = 0; k < bottom; k++)
    spots.push({ x: across(bottom - 1 - k, bottom), y: height - 50 });
  for (let k = 0; k < left; k++) spots.push({ x: 60, y: down(left - 1 - k, left) });
  return { spots, height };
}

function roomOf({ episode, text }) {
  const places = episode.room.places.map(text);
  const turns = episode.room.turns.map((turn) => turn.map(text));
  const { spots, height } = spotsOf(places.length);
  const middle = { x: ROOM_WIDTH / 2, y: height / 2 };
  const at = new Map([["", middle]]);
  places.forEach((name, i) => at.set(name, spots[i]));
  const svg = draw("svg", { viewBox: `0 0 ${ROOM_WIDTH} ${height}`, class: "over", role: "img" });
  svg.append(arrowHead(), draw("circle", { cx: middle.x, cy: middle.y, r: 5, class: "place" }));
  const been = new Set();
  const everOpened = new Set();
  const done = new Map();
  const numbers = [];
  const walked = new Map();
  let from = "";
  turns.forEach(([place, held, opened, did], i) => {
    if (opened) everOpened.add(opened);
    if (did) done.set(place, [...(done.get(place) || []), `${i + 1}: ${did}`]);
    if (place === from || !at.has(place)) return;
    been.add(place);
    const key = `${from}>${place}`;
    const before = walked.get(key) || 0;
    walked.set(key, before + 1);
    const way = wayOf(at.get(from), at.get(place), 18 + 16 * before);
    const style = "way" + (held ? " holding" : "");
    svg.append(draw("path", { d: way.path, class: style, "marker-end": "url(#tip)" }));
    numbers.push(caption(way.middle.x, way.middle.y + 4, String(i + 1), "turn-number"));
    from = place;
  });
  for (const name of places) {
    const { x, y, up } = at.get(name);
    const classes = ["place", been.has(name) && "been", everOpened.has(name) && "opened"];
    const box = { x: x - 54, y: y - 12, width: 108, height: 24, rx: 6 };
    svg.append(draw("rect", { ...box, class: classes.filter(Boolean).join(" ") }));
    svg.append(caption(x, y + 4, name, ""));
    const all = done.get(name) || [];
    const lines = all.slice(0, LABEL_LINES);
    if (all.length > lines.length) lines[LABEL_LINES - 1] += " ...";
    lines.forEach((line, i) => {
      svg.append(
        caption(x, up ? y - 18 - 12 * (lines.length - 1 - i) : y + 24 + 12 * i, line, "quiet"),
      );
    });
  }
  svg.append(...numbers);
  const said =
    "The numbers are turns. A thick line: something is held. A dashed place: it was opened.";
  return make("div", {}, svg, make("p", { class: "quiet small" }, said));
}

function caption(x, y, text, style) {
  return draw("text", { x, y, "text-anchor": "middle", class: style }, text);
}

function arrowHead() {
  const size = { viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9 };
  const tip = draw("marker", { id: "tip", orient: "auto", markerUnits: "userSpaceOnUse", ...size });
  tip.append(draw("path", { d: "M0 0L8 4L0 8z", class: "tip" }));
  return tip;
}

// A way is bent to the right of its direction: there and back do not cover each other.
function wayOf(start, end, bend) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const length = Math.hypot(dx, dy) || 1;
  const bent = {
    x: (start.x + end.x) / 2 - (dy / length) * bend,
    y: (start.y + end.y) / 2 + (dx / length) * bend,
  };
  const stop = { x: end.x - (dx / length) * 56, y: end.y - (dy / length) * 14 };
  return {
    path: `M${start.x} ${start.y}Q${bent.x} ${bent.y} ${stop.x} ${stop.y}`,
    middle: { x: (start.x + stop.x + 2 * bent.x) / 4, y: (start.y + stop.y + 2 * bent.y) / 4 },
  };
}
