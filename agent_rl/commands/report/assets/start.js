// Begins: first the list of episodes, then the curves, which need Plotly to be unpacked.
"use strict";

async function start() {
  await showEpisodes().catch(complain);
  performance.mark("list");
  // After the next paint.
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  if (facts.charts) await showCharts(document.getElementById("charts"));
  document.documentElement.dataset.ready = "yes";
}

start().catch(complain);
