// Begins: first the list of episodes, then the curves, whose Plotly takes longer.
"use strict";

async function start() {
  await showEpisodes().catch(complain);
  performance.mark("list");
  await nextFrame();
  if (facts.charts) await showCharts(document.getElementById("charts"));
  document.documentElement.dataset.ready = "yes";
}

start().catch(complain);
