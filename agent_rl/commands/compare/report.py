"""Writes a comparison: Markdown, JSON and pictures in a folder, and its tables on the terminal."""

import json
import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.comparison import RECENT, Comparison, compare
from agent_rl.commands.compare.keep import copy_small_files
from agent_rl.commands.compare.published import Published, caveat, published
from agent_rl.commands.compare.runs import find_runs, is_run
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL, WINDOW
from agent_rl.commands.compare.tables import (
    Grid,
    family_table,
    mechanism_table,
    pairs_table,
    reading_table,
    runs_table,
    seed_pairs_table,
    seeds_table,
    times_table,
)
from agent_rl.config import ConfigError
from agent_rl.display import console, say, visible
from agent_rl.files import write_text

VERSION = 1
"""The version of comparison.json."""


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
    """Compare runs and sweeps: print tables, write Markdown, JSON and two pictures.

    Args:
        paths: folders of runs and sweeps.
        to: the folder to write; by default that of the sweep if `paths` begin with one, else
            `comparison/` in the parent folder of the first run.
        splits: as in `compare`, like `labels`, `against` and `paired`.
        labels: names of variants, each with a glob.
        references: names of published rows.
        against: a variant's label.
        paired: whether to make paired tests.
        kept: a folder for copies of the runs' small files.

    Returns:
        The folder with the files.

    Raises:
        ConfigError: these runs cannot be compared as asked. Nothing has been written then.
    """
    found = find_runs(paths)
    comparison = compare(found, splits=splits, labels=labels, against=against, paired=paired)
    rows = published(references, comparison.env)
    folder = to or _default_folder(paths[0], found.runs[0].path)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to {folder}: a file; name a folder")
    size = copy_small_files(found, kept) if kept else 0
    _write(comparison, rows, folder)
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
    """All numbers, to six digits: later digits depend on the order of sums."""
    values = {
        "version": VERSION,
        **asdict(comparison),
        "references": [asdict(row) for row in references],
    }
    return json.dumps(_rounded(values), allow_nan=False) + "\n"


def tables(comparison: Comparison, references: Sequence[Published]) -> Iterator[Grid]:
    """All tables in their order. Those without rows are not shown."""
    yield runs_table(comparison)
    for split in comparison.splits:
        yield family_table(comparison, split, references)
        yield seeds_table(comparison, split)
        yield reading_table(comparison, split)
        yield pairs_table(comparison, split)
        yield seed_pairs_table(comparison, split)
    yield seeds_table(comparison, None)
    yield mechanism_table(comparison)
    yield times_table(comparison)


def markdown(comparison: Comparison, references: Sequence[Published]) -> str:
    """The comparison as a page: tables, pictures, and how to read them."""
    names = ", ".join(variant.label for variant in comparison.variants)
    parts = [f"# Comparison: {names}"]
    if comparison.notes:
        parts.append("\n".join(f"- {note}" for note in comparison.notes))
    for grid in tables(comparison, references):
        if grid.rows:
            parts += [f"## {grid.title}", grid.markdown()]
    parts += ["## Learning curves", "![learning curves](curves.png)", _on_curves()]
    parts += ["## The mechanism over training", "![the mechanism](mechanism.png)"]
    parts.append(_on_mechanism(comparison))
    parts += ["## How the numbers are made", _on_numbers(comparison)]
    if references:
        parts += ["## Published rows", _on_references(references)]
    return visible("\n\n".join(parts) + "\n")


def _default_folder(first: Path, first_run: Path) -> Path:
    """The sweep's folder, or `comparison/` in the parent folder of a run."""
    if not is_run(first):
        return first
    # A plain `first_run.parent` would be wrong for `.`.
    return Path(os.path.normpath(first_run / "..")) / "comparison"


def _write(comparison: Comparison, references: Sequence[Published], folder: Path) -> None:
    # Imported here, because matplotlib takes a second to load and errors should come first.
    from agent_rl.commands.compare.figures import draw_curves, draw_mechanism

    folder.mkdir(parents=True, exist_ok=True)
    draw_curves(comparison, folder / "curves.png")
    draw_mechanism(comparison, folder / "mechanism.png")
    write_text(folder / "comparison.md", markdown(comparison, references))
    write_text(folder / "comparison.json", as_json(comparison, references))


def _on_curves() -> str:
    return (
        "Success in training is that of the episodes of a rollout step. It is shown as a running "
        f"mean over {WINDOW} rollout steps: a step and those before it. Held-out success is that "
        "of all evaluations: during training, the final one, and those made afterwards with "
        "`agent-rl evaluate`. Step 0 is the policy that training began with. A thick line is the "
        "interquartile mean over seeds and ends where the shortest of its runs ends. A thin line "
        "is one seed and ends where its run ends. The band is the 95 % bootstrap interval over "
        f"seeds; with fewer than {SEEDS_FOR_INTERVAL} seeds it is their range."
    )


def _on_mechanism(comparison: Comparison) -> str:
    clips = "; ".join(f"{variant.label}: {variant.clip}" for variant in comparison.variants)
    return (
        "The metrics are those of `learner/` in metrics.jsonl, over the agent tokens that were "
        "trained in a rollout step. The ratio is pi_new / pi_old: its quantiles, and the root mean "
        "square of its logarithm. *Clipped* is the share of tokens whose gradient the clip "
        "removed, by the sign of their advantage. The gradient norm is that before clipping. The "
        "entropy is in nats a token. The mismatch is the mean of |learner's - sampler's log-prob| "
        "in nats. *Deviation* is the root mean square of the differences from one rollout step to "
        "the next, over the square root of 2. A slow change, as with the learning rate, hardly "
        "counts in it: small is steady. *Change* is the mean over the last quarter of the rollout "
        "steps minus that over the first. A tight range of ratios "
        "may also come from small steps, and a high entropy from a policy that breaks up: look at "
        "both together with success. Clip fractions are those of each variant's own bounds "
        f"({clips}), so they compare settings and not objectives. The effective share is the "
        "effective sample size of tokens that are weighed by their ratios, over their number. The "
        "top share is the part of the weight that the top 1 % of the tokens hold. The cosine is "
        "that of the gradient with the probe's on the same samples: if it is 1, a comparison of "
        "the two objectives can show nothing. Runs without such a metric have no row of it. The "
        f"picture shows running means over {WINDOW} steps."
    )


def _on_numbers(comparison: Comparison) -> str:
    lines = [
        "*Evaluated* names the evaluation that counts, and the rollout step after which it was "
        "made. It is the last evaluation, never the best: `evaluations/final.json` (final), or one "
        "that `agent-rl evaluate` made of the checkpoint (afterwards), or one made during "
        "training. Each split has its own. An evaluation with the run's config precedes a "
        "larger one with other conditions.",
        "Success by family is the mean over games; a game counts by its mean over seeds and "
        "repeats. Its interval is a bootstrap that resamples games (percentile, 10,000 resamples), "
        "or Wilson's if each game was played once. It takes the policies as fixed. The table over "
        "seeds shows how much other seeds would differ.",
        "Over seeds: the interquartile mean (IQM, as in rliable), which is the plain mean of fewer "
        "than four seeds, and its bootstrap interval; with fewer than "
        f"{SEEDS_FOR_INTERVAL} seeds, the range.",
        f"Success at the end of training is the mean over the last {RECENT} rollout steps.",
        "Minutes and tokens are those of the rollout steps, without start, checkpoints and "
        "evaluations. Tokens are all tokens of the episodes that train.",
    ]
    if any(any(variant.reading.values()) for variant in comparison.variants):
        lines.append(
            "Reading: of the commands that go to furniture, those to furniture that the texts do "
            "not list; of those that take a thing, those for a thing that no text has named; of "
            "the invalid commands, those that repeat the one before. Each is a mean over seeds, "
            "as under *over seeds*."
        )
    if any(variant.times for variant in comparison.variants):
        lines.append(
            "Where the time went: the nine shares from *policy* to *other* add up to 100. They are "
            "of all time of a run, with checkpoints and evaluations, but without the start: the "
            "mean over its time, then over seeds. *Slowest* is the wait for the last episodes of a "
            "step. A variant with a run of an earlier version, which lacks the shares, is left out."
        )
    if any(comparison.tests.values()):
        lines += [
            "Paired over all seeds: the difference of mean success on the same games, in "
            "percentage points (the first of the pair minus the second). Its interval is a "
            "bootstrap by game. p comes from permuting the sign of each game's difference, with "
            "Holm's correction over the pairs.",
            "Seed by seed: McNemar's exact test. A game is won if more than half of its repeats "
            "are. Holm's correction covers all tests of the table, for each split separately.",
            "These tests take the trained policies as fixed: a small p says that these policies "
            "differ. The interval and p *over seeds* say whether other seeds would show the same "
            "on these games: Welch's t test of the seeds' mean successes, with a variance for each "
            "side and Holm over the pairs. With three seeds a side it sees large differences only.",
        ]
    return "\n".join(f"- {line}" for line in lines)


def _on_references(references: Sequence[Published]) -> str:
    lines = [f"- {row.method}, {row.model} (`{row.name}`): {row.source}" for row in references]
    return caveat() + "\n\n" + "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
