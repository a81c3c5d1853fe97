"""Writes a comparison: Markdown, JSON and pictures in a folder, and its tables on the terminal."""

import json
import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.comparison import RECENT, Comparison, compare
from agent_rl.commands.compare.keep import keep
from agent_rl.commands.compare.published import Published, published
from agent_rl.commands.compare.runs import find_runs, is_run
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL, WINDOW
from agent_rl.commands.compare.tables import (
    Grid,
    family_table,
    mechanism_table,
    pairs_table,
    runs_table,
    seed_pairs_table,
    seeds_table,
)
from agent_rl.config import ConfigError
from agent_rl.display import console, say

VERSION = 1
"""Of comparison.json."""


def compare_folders(
    paths: Sequence[Path],
    *,
    to: Path | None = None,
    splits: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    references: Sequence[str] = (),
    against: str | None = None,
    paired: bool = True,
    kept: Path | None = None,
) -> Path:
    """Compare runs and sweeps: print the tables; write comparison.md, comparison.json, curves.png
    and mechanism.png.

    They go to the folder `to`, which is returned; without it, to the sweep's where `paths` begin
    with one, and else to `comparison/` beside the first run. `references` are names of published
    rows; `kept` gets copies of the runs' small files; the rest is as in `compare`.

    Raises:
        ConfigError: what was asked for cannot be compared; nothing has been written then.
    """
    found = find_runs(paths)
    comparison = compare(found, splits=splits, labels=labels, against=against, paired=paired)
    rows = published(references, comparison.env)
    beside = Path(os.path.normpath(found.runs[0].path / "..")) / "comparison"
    folder = to or (beside if is_run(paths[0]) else paths[0])
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to {folder}: a file; name a folder")
    size = keep(kept, found) if kept else 0
    from agent_rl.commands.compare.figures import draw_curves, draw_mechanism

    folder.mkdir(parents=True, exist_ok=True)
    draw_curves(comparison, folder / "curves.png")
    draw_mechanism(comparison, folder / "mechanism.png")
    (folder / "comparison.md").write_text(markdown(comparison, rows))
    (folder / "comparison.json").write_text(as_json(comparison, rows))
    for grid in tables(comparison, rows):
        if grid.rows:
            console.print(grid.table())
            console.print()
    for note in comparison.notes:
        say(f"note: {note}")
    say(f"written to {folder}: comparison.md, comparison.json, curves.png, mechanism.png")
    if kept:
        say(f"kept in {kept}: the runs' configs, metrics and evaluations, {size / 1e6:.1f} MB")
    return folder


def as_json(comparison: Comparison, references: Sequence[Published]) -> str:
    """All numbers, to six digits: what differs beyond them is the order of sums."""
    values = {
        "version": VERSION,
        **asdict(comparison),
        "references": [asdict(row) for row in references],
    }
    return json.dumps(_rounded(values), allow_nan=False) + "\n"


def tables(comparison: Comparison, references: Sequence[Published]) -> Iterator[Grid]:
    """All tables in their order; one without rows has nothing to show."""
    yield runs_table(comparison)
    for split in comparison.splits:
        yield family_table(comparison, split, references)
        yield seeds_table(comparison, split)
        yield pairs_table(comparison, split)
        yield seed_pairs_table(comparison, split)
    yield seeds_table(comparison, None)
    yield mechanism_table(comparison)


def markdown(comparison: Comparison, references: Sequence[Published]) -> str:
    """The comparison as a page: tables, pictures, and how to read them."""
    names = ", ".join(variant.label for variant in comparison.variants)
    parts = [f"# Comparison: {names}"]
    parts += ["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []
    for grid in tables(comparison, references):
        if grid.rows:
            parts += [f"## {grid.title}", grid.markdown()]
    parts += ["## Learning curves", "![learning curves](curves.png)", _on_curves()]
    parts += [
        "## The mechanism over training",
        "![the mechanism](mechanism.png)",
        _on_mechanism(comparison),
    ]
    parts += ["## How the numbers are made", _on_numbers(comparison)]
    if references:
        parts += ["## Published rows", _on_references(references)]
    return "\n\n".join(parts) + "\n"


def _on_curves() -> str:
    return (
        f"Success in training is of the episodes of a rollout step, as a running mean over {WINDOW} rollout steps (a "
        "step and those before it). Held-out success is of the evaluations during training, of the final one, and of "
        "those made afterwards with `agent-rl evaluate` (step 0: of the policy that training began with). A "
        "thick line is the interquartile mean over seeds and ends where the shortest of its runs ends; a thin line is "
        "a seed and ends where that run ends. The band is the 95 % bootstrap interval over seeds; with fewer than "
        f"{SEEDS_FOR_INTERVAL} seeds it is their range."
    )


def _on_mechanism(comparison: Comparison) -> str:
    clips = "; ".join(f"{variant.label}: {variant.clip}" for variant in comparison.variants)
    return (
        "The metrics are those of `learner/` in metrics.jsonl, over the agent tokens that were trained in a rollout "
        "step: quantiles of the ratio pi_new / pi_old and the root mean square of its logarithm; the share of tokens "
        "whose gradient the clip removed, by the sign of their advantage; the gradient norm before it is cut; the "
        "entropy in nats a token; the mismatch, the mean of |learner's - sampler's log-prob| in nats. *Deviation* "
        "is that from a rollout step to the next (the root mean square of the differences over the square root of 2), "
        "so that a slow change, as with the learning rate, is not in it: small is steady. *Change* is "
        "the mean over the last quarter of the rollout steps less that over the first: of the entropy, what was lost. "
        "A tight range of ratios may also come from small steps, and a high entropy from a policy that breaks up: look "
        f"at both beside success. Clip fractions are those of each variant's own bounds ({clips}), so they compare "
        f"settings and not objectives. The picture shows running means over {WINDOW} steps."
    )


def _on_numbers(comparison: Comparison) -> str:
    lines = [
        "*Evaluated* says which evaluation counts, and after which rollout step it was made. It is that of the last "
        "rollout step that has one, and never the best: `evaluations/final.json` (final), or one that `agent-rl "
        "evaluate` made of the checkpoint (afterwards), or one that was made during training. Each split has its own; "
        "one that was played as the run's config says goes before a larger one that was not.",
        "Success by family is the mean over games, where a game counts by its mean over seeds and repeats. Its "
        "interval is a bootstrap that resamples games (percentile, 10,000 resamples), and Wilson's where each game was "
        "played once. It takes the policies as they are: what another seed would do is in the table over seeds.",
        "Over seeds: the interquartile mean (IQM, as in rliable), which is the plain mean of fewer than four seeds, "
        f"and its bootstrap interval; with fewer than {SEEDS_FOR_INTERVAL} seeds, the range.",
        f"Success at the end of training is the mean over the last {RECENT} rollout steps.",
        "Minutes and tokens are of the rollout steps: start, checkpoints and evaluations are not among them; tokens "
        "are all tokens of the episodes that train.",
    ]
    if any(comparison.tests.values()):
        lines.append(
            "Paired over all seeds: the difference of mean success on the same games in percentage points (the first "
            "of the pair less the second), its bootstrap interval by game, "
            "and p by permuting the sign of each game's difference, corrected by Holm over the pairs. Seed by seed: "
            "McNemar's exact test, where a game is won if more than half of its repeats are, corrected by Holm over "
            "all tests of the table; each split by itself. These take the trained policies as they are: a small "
            "p says that these policies differ. Whether the setting makes it, and other seeds would show the same on "
            "these games, is for the interval and p *over seeds*: Welch's t test of the seeds' mean successes, each "
            "side's by itself, with Holm over the pairs. With three seeds a side it sees large differences only."
        )
    return "\n".join(f"- {line}" for line in lines)


def _on_references(references: Sequence[Published]) -> str:
    lines = [f"- {row.method}, {row.model} (`{row.name}`): {row.source}" for row in references]
    caveat = (
        "Published rows are no controls for these runs: other policies, prompts and amounts of training, on the "
        "official games, mostly 128 of the 140 of valid_seen, and one evaluation each. One frozen checkpoint scored "
        "83.6, 86.7 and 89.1 with three evaluation seeds."
    )
    return caveat + "\n\n" + "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
