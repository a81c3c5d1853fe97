"""How large the report of a long run is, and how soon Chromium has it open.

    python -m benchmarks.report_size RUN [--steps 200] [--episodes 25000] [--keep FOLDER]

It makes a long run from the episodes of a real one: each rollout step has groups of RUN, drawn at
random, whose log-probs are scaled at random. So they compress no better than new ones would. Lines
of metrics are repeated with noise. The times are of one opening each, from a file.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_rl.commands.report.report import write_report
from agent_rl.commands.report.tokens import tokenizer_file
from agent_rl.config import load_run_config
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_step_episodes, write_trajectories
from rollouts import Trajectory


def long_run(source: Path, target: Path, *, steps: int, episodes: int) -> None:
    """Write a run of `steps` rollout steps with `episodes` episodes in all."""
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


def seconds_to_open(page: Path) -> dict[str, float]:
    """Seconds until the tables are painted, the list is there, the curves are, an episode is."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab: Any = browser.new_page()
        tab.set_default_timeout(300_000)
        tab.goto(f"file://{page.resolve()}", wait_until="commit")
        tab.wait_for_selector(".plot .main-svg")
        # From the beginning of the navigation, by the page's own clock.
        milliseconds = tab.evaluate(
            """() => ({
              painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
              list: performance.getEntriesByName("list")[0].startTime,
              curves: performance.now(),
            })"""
        )
        seconds = {name: value / 1000 for name, value in milliseconds.items()}
        began = time.perf_counter()
        tab.locator("#list tbody a").nth(7).click()
        tab.wait_for_selector("#turns .turn")
        seconds["an episode"] = time.perf_counter() - began
        browser.close()
    return seconds


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=25_000)
    parser.add_argument("--keep", type=Path, help="an empty folder for the run and its page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)) / "long"
        if not folder.exists():
            long_run(options.run, folder, steps=options.steps, episodes=options.episodes)
        began = time.perf_counter()
        page = write_report([folder])
        print(f"written in {time.perf_counter() - began:.0f} s, {page.stat().st_size / 1e6:.1f} MB")
        for name, seconds in seconds_to_open(page).items():
            print(f"{name}: {seconds:.2f} s")


if __name__ == "__main__":
    main()
