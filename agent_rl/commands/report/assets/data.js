// What all scripts share: packed texts, elements, the theme.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const unpackedTexts = new Map();

// A packed text by its name, unpacked: a promise, made once.
function unpacked(name) {
  if (!unpackedTexts.has(name)) unpackedTexts.set(name, unpack(name));
  return unpackedTexts.get(name);
}

async function unpack(name) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old for DecompressionStream: curves and episodes need it");
  }
  const packed = document.getElementById("packed-" + name).textContent;
  const letters = atob(packed);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// A chunk of episodes is large once unpacked: only the newest stay.
function forgetAllBut(most) {
  const chunks = [...unpackedTexts.keys()].filter((name) => name.startsWith("episodes-"));
  for (const name of chunks.slice(0, Math.max(0, chunks.length - most))) unpackedTexts.delete(name);
}

// An element. Texts are set as text, never as HTML: they come from environments and models.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on")
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function complain(error) {
  const problem = document.getElementById("problem");
  problem.textContent = String(error.message || error);
  problem.hidden = false;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
}

// The theme: the system's, until a person chooses.
const themeButton = document.getElementById("theme");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
try {
  chosenTheme = localStorage.getItem("agent-rl-theme");
} catch {
  /* A file may have no storage. */
}

function theme() {
  return chosenTheme || (systemIsDark.matches ? "dark" : "light");
}

function showTheme() {
  document.documentElement.dataset.theme = theme();
  document.documentElement.style.colorScheme = theme();
  themeButton.textContent = theme() === "dark" ? "light" : "dark";
  document.dispatchEvent(new Event("theme"));
}

themeButton.addEventListener("click", () => {
  chosenTheme = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("agent-rl-theme", chosenTheme);
  } catch {
    /* As above. */
  }
  showTheme();
});
systemIsDark.addEventListener("change", showTheme);
showTheme();
