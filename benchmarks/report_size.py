"""How large the report of a long run is, and how soon Chromium has it open.

    python -m benchmarks.report_size RUN [--steps 200] [--episodes 25000] [--records]

It makes a long run from the episodes of a real one: each rollout step has groups of RUN, drawn at
random, whose log-probs are scaled at random. So they compress no better than new ones would. Lines
of metrics are repeated with noise. The times are medians of openings from a file, each in a new
browser. On a busy machine only the processor time says much.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agent_rl.commands.report.report import write_report
from agent_rl.commands.report.tokens import tokenizer_file
from agent_rl.config import load_run_config
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.token_records import COLUMNS, SampleTokens, write_token_records
from agent_rl.runs.trajectories import load_step_episodes, write_trajectories
from rollouts import Trajectory

_PORT = 9377
_SETTLE_SECONDS = 15.0
"""After it, a page is open on a busy machine, too."""


def long_run(source: Path, target: Path, *, steps: int, episodes: int, records: bool) -> None:
    """Write a run of `steps` rollout steps with `episodes` episodes in all.

    Args:
        records: whether it has numbers of each token (`train.keep_token_records`), at random.
    """
    real, made = RunLayout(source), RunLayout(target)
    draw = random.Random(0)
    groups: list[list[Trajectory]] = []
    for step, path in sorted(real.train.all_step_episodes()):
        by_group: dict[int, list[Trajectory]] = {}
        for name, episode in load_step_episodes(path, step).items():
            by_group.setdefault(name.group, []).append(episode)
        groups += by_group.values()
    made.train.folder.mkdir(parents=True)
    config = real.train.config_file.read_text()
    made.train.config_file.write_text(config)
    tokenizer = tokenizer_file(real, load_run_config(made.train.config_file))
    if tokenizer is not None:
        made.init.mkdir()
        shutil.copy(tokenizer, made.init)
    lines = [json.loads(line) for line in real.train.metrics_file.read_text().splitlines()]
    with made.train.metrics_file.open("w") as file:
        for step in range(1, steps + 1):
            file.write(json.dumps(noisy(lines[step % len(lines)], step, draw)) + "\n")
    left = episodes
    for step in range(1, steps + 1):
        played: dict[EpisodeId, Trajectory] = {}
        number = 0
        while len(played) < left // (steps - step + 1):
            number += 1
            for member, episode in enumerate(draw.choice(groups), start=1):
                played[EpisodeId(step, number, member)] = other_logprobs(episode, draw)
        left -= len(played)
        path = made.train.step_episodes(step)
        write_trajectories(path, list(played.values()), ids=list(played))
        if records:
            samples = [random_numbers(name, episode, step) for name, episode in played.items()]
            write_token_records(made.train.token_records(step), samples)


def random_numbers(name: EpisodeId, episode: Trajectory, step: int) -> SampleTokens:
    """Numbers for each of an episode's tokens, as an update gives them; one in ten is clipped."""
    draw = np.random.default_rng((step, name.group, name.member))
    tokens = sum(episode.action_mask)
    numbers = {column: np.zeros(tokens, dtype=kind) for column, kind in COLUMNS.items()}
    numbers["log_ratio"] = draw.normal(0.0, 0.1, tokens)
    numbers["mismatch"] = draw.normal(0.0, 0.003, tokens)
    numbers["entropy"] = draw.exponential(0.3, tokens)
    numbers["clipped"] = (draw.random(tokens) < 0.1).astype(np.uint8)
    numbers["weight"] = np.where(numbers["clipped"], 0.0, np.exp(numbers["log_ratio"]))
    numbers["share"] += 1e-4
    return SampleTokens(id=name, part=1, optimizer_step=1, numbers=numbers)


def noisy(line: dict[str, float], step: int, draw: random.Random) -> dict[str, float]:
    """A line of metrics with other numbers."""
    changed = {name: value * draw.uniform(0.8, 1.2) for name, value in line.items()}
    return {**changed, "step": step}


def other_logprobs(episode: Trajectory, draw: random.Random) -> Trajectory:
    """The episode with log-probs of the same size."""
    turns = []
    for turn in episode.turns:
        logprobs = tuple(value * draw.uniform(0.5, 1.5) for value in turn.completion.logprobs)
        turns.append(replace(turn, completion=replace(turn.completion, logprobs=logprobs)))
    return replace(episode, turns=tuple(turns))


def opened_once(page: Path) -> dict[str, float]:
    """Open the page in a new browser; returns seconds by milestone, and of processor time.

    The milestones are by the page's own clock, from the beginning of the navigation. Playwright
    looks at the page afterwards only: a browser that is driven from the start takes twice the
    time to start Plotly.
    """
    import psutil
    from playwright.sync_api import sync_playwright

    address = f"http://127.0.0.1:{_PORT}"
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900")
        port = f"--remote-debugging-port={_PORT}"
        arguments = [*options, port, f"--user-data-dir={profile}", f"file://{page.resolve()}"]
        browser = subprocess.Popen(
            [str(shutil.which("chromium")), *arguments], stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(_SETTLE_SECONDS)
            # Its renderers: that of the page has worked most.
            children = psutil.Process(browser.pid).children(recursive=True)
            renderers = [child for child in children if "--type=renderer" in child.cmdline()]
            used = max(sum(child.cpu_times()[:2]) for child in renderers)
            tab: Any = playwright.chromium.connect_over_cdp(address).contexts[0].pages[0]
            tab.set_default_timeout(300_000)
            milliseconds = tab.evaluate(
                """() => Object.fromEntries(
                  ["first-contentful-paint", "list", "curves"].map((name) =>
                    [name, performance.getEntriesByName(name)[0].startTime]))"""
            )
            seconds = {name: value / 1000 for name, value in milliseconds.items()}
            began = time.perf_counter()
            tab.locator("#list tbody a").nth(7).click()
            tab.wait_for_selector("#turns .turn")
            seconds["an episode"] = time.perf_counter() - began
            return {**seconds, "processor time of all until then": used}
        finally:
            browser.terminate()
            browser.wait()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=25_000)
    parser.add_argument("--records", action="store_true", help="with numbers of each token")
    parser.add_argument("--openings", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="an empty folder for the run and its page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)) / "long"
        if not folder.exists():
            sizes = {"steps": options.steps, "episodes": options.episodes}
            long_run(options.run, folder, **sizes, records=options.records)
        began = time.perf_counter()
        page = write_report([folder])
        print(f"written in {time.perf_counter() - began:.0f} s, {page.stat().st_size / 1e6:.1f} MB")
        openings = [opened_once(page) for _ in range(options.openings)]
        for name in openings[0]:
            seconds = sorted(opening[name] for opening in openings)
            ends = f"{seconds[0]:.2f} to {seconds[-1]:.2f}"
            print(f"{name}: {statistics.median(seconds):.2f} s ({ends})")
        load = ", ".join(f"{value:.0f}" for value in os.getloadavg())
        print(f"load average of the machine: {load}; processors: {os.cpu_count()}")


if __name__ == "__main__":
    main()
