"""The commands `agent-rl bench ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_rl.commands.games.cli import Data, Split
from agent_rl.commands.stages.cli import Overrides, RayAddress, TrustEnv
from agent_rl.commands.stages.start import starting_policy
from agent_rl.commands.stages.target import find_target
from agent_rl.config import ConfigError, load_config

bench = typer.Typer(no_args_is_help=True, help="Measure speed, memory and exactness.")

Json = Annotated[Path | None, typer.Option(help="also write the numbers to this file")]


@bench.command("env")
def env_(
    data: Data = "generated",
    split: Split = "valid_seen",
    games: Annotated[
        int, typer.Option(min=1, help="how many games, in equal shares of the families")
    ] = 6,
    seed: Annotated[int, typer.Option(help="the seed of the drawn games and of the walks")] = 0,
    json: Json = None,
) -> None:
    """Time ALFWorld's native engine against the stock one: steps, resets, a group, memory."""
    from agent_rl.commands.bench.env import bench_env

    bench_env(data, split=split, games=games, seed=seed, json_file=json)


@bench.command("games")
def games_(data: Data = "generated", split: Split = "train", json: Json = None) -> None:
    """Time finding and parsing all games of a split."""
    from agent_rl.commands.bench.games import bench_games

    bench_games(data, split=split, json_file=json)


@bench.command("gpu")
def gpu_(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key.path=value for the config of --estimate"),
    ] = None,
    shape: Annotated[
        Literal["qwen2.5-1.5b", "tiny"], typer.Option(help="of the model; tiny also runs on a CPU")
    ] = "qwen2.5-1.5b",
    estimate: Annotated[
        str | None, typer.Option(help="YAML config: estimate memory and seconds, run nothing")
    ] = None,
    gpu: Annotated[str, typer.Option(help="the GPU of --estimate, such as a100")] = "h100",
    turns: Annotated[
        int | None, typer.Option(min=1, help="of an episode; default: episode.max_turns")
    ] = None,
    observation_tokens: Annotated[
        int | None, typer.Option(min=1, help="that a turn adds to the prompt; default: 100")
    ] = None,
    action_tokens: Annotated[
        int | None, typer.Option(min=1, help="of an action; default: episode.max_action_tokens")
    ] = None,
    of_peak: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="share of the GPU's peak that is reached")
    ] = 0.4,
    json: Json = None,
) -> None:
    """Check a GPU in its first minutes; or estimate memory and seconds of a config on one."""
    load = {
        "turns": turns,
        "observation_tokens": observation_tokens,
        "action_tokens": action_tokens,
    }
    if estimate is not None:
        from agent_rl.commands.bench.gpu.gpus import gpu_named

        chosen, checked = gpu_named(gpu), load_config(estimate, overrides or ())
        from agent_rl.commands.bench.gpu.estimate import bench_estimate

        bench_estimate(checked, chosen, of_peak=of_peak, json_file=json, **load)
        return
    if overrides or any(load.values()):
        raise ConfigError("settings, --turns and numbers of tokens go with --estimate CONFIG")
    from agent_rl.commands.bench.gpu.run import bench_gpu

    if not bench_gpu(shape, json):
        raise typer.Exit(1)


@bench.command("learner")
def learner_(
    data: Data = "generated",
    model: Annotated[
        str | None,
        typer.Option(help="folder, hub name or .gguf file; default: a small policy from scratch"),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="the expert's episodes in the optimizer step")
    ] = 100,
    generations: Annotated[
        int, typer.Option(min=1, help="episodes of each task; they begin alike")
    ] = 1,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="learner.dtype")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="torch's threads on CPU; 0: its choice")] = 0,
    micro_batch_tokens: Annotated[
        int, typer.Option(min=1, help="learner.micro_batch_tokens")
    ] = 4096,
    json: Json = None,
) -> None:
    """Time the learner against the bare model and a plain padded learner, with peak memory."""
    from agent_rl.commands.bench.learner import LearnerBench, bench_learner

    measured = LearnerBench(
        data=data,
        model=model,
        episodes=episodes,
        generations=generations,
        dtype=dtype,
        threads=threads,
        micro_batch_tokens=micro_batch_tokens,
    )
    bench_learner(measured, json)


@bench.command("reading")
def reading_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="a YAML config, run folder, checkpoint or model")
    ],
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="the config, if WHAT has none")] = None,
    split: Annotated[
        str | None, typer.Option(help="such as valid_seen,train_unseen_rooms; else the config's")
    ] = None,
    games: Annotated[int, typer.Option(min=1, help="how many of each split")] = 40,
    trust_env: TrustEnv = False,
    json: Json = None,
) -> None:
    """Exchange a name in what a policy has read: does its action follow, or not?"""
    settings = [*(overrides or ()), f"evaluation.tasks={games}"]
    if split is not None:
        settings.append(f"evaluation.split={split}")
    target = find_target(what, settings, config_file=config, trust_env=trust_env)
    if target.player is not None:
        raise ConfigError(f"{what}: a player without a model reads nothing; name a policy")
    from agent_rl.commands.bench.reading import bench_reading

    bench_reading(target.config, target.model or starting_policy(target.config), json)


@bench.command("replay")
def replay_(
    config: Annotated[str, typer.Argument(help="YAML config; its run needs a policy")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.path=value, such as learner.optimizer_steps=16")
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(help="gmpo,grpo,...; default: the sweep's variants, or all objectives"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="orders of the data")] = "0,1,2",
    tasks: Annotated[
        int, typer.Option(min=0, help="tasks of an evaluation of each; 0 leaves it out")
    ] = 0,
    episodes: Annotated[
        Path | None,
        typer.Option(
            help="the batch, such as train/trajectories/step-000001.jsonl.gz of a run; played and "
            "written if there is no such file"
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="draw the picture in this file")] = None,
    json: Json = None,
) -> None:
    """Train every objective on one stored batch, in the same orders, without new rollouts."""
    orders = tuple(dict.fromkeys(_counts(seeds, "--seeds", least=0)))
    load_config(config, overrides or ())  # a typo should not have to wait for torch
    from agent_rl.commands.bench.replay import bench_replay, read_replay

    bench = read_replay(
        config,
        overrides or (),
        objectives=objectives,
        seeds=orders,
        tasks=tasks,
        episodes=episodes,
    )
    bench_replay(bench, png_file=png, json_file=json)


@bench.command("rollout")
def rollout_(
    config: Annotated[
        str | None,
        typer.Argument(
            help="YAML config: its run's newest policy plays; default: a small one from scratch"
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.path=value, for example workers.count=4")
    ] = None,
    concurrency: Annotated[
        str, typer.Option(help="episodes at a time: a row for each")
    ] = "1,2,4,8,16,32,64",
    engines: Annotated[
        str, typer.Option(help="numbers of engines, such as 1,2; default: the config's")
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="episodes for each place")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="how often each way is timed")] = 3,
    generate_seconds: Annotated[
        float, typer.Option(min=0.0, help="time of transformers' generate; 0 leaves it out")
    ] = 10.0,
    json: Json = None,
) -> None:
    """Time whole rollouts against raw vLLM, a lock-step loop and transformers' generate."""
    settings = [*(overrides or ())]
    if config is not None and "=" in config and not Path(config).is_file():
        settings.insert(0, config)
        config = None
    checked = None if config is None else load_config(config, settings)
    chosen = _counts(concurrency, "--concurrency")
    numbers = _counts(engines, "--engines") if engines else ()
    from agent_rl.commands.bench.rollout import RolloutBench, bench_rollout

    measured = RolloutBench(
        concurrency=chosen,
        engines=numbers,
        rounds=rounds,
        repeats=repeats,
        generate_seconds=generate_seconds,
    )
    bench_rollout(measured, checked, settings, json)


@bench.command("soak")
def soak_(
    config: Annotated[str, typer.Argument(help="YAML config; its run needs a policy")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key.path=value, for example train.look_ahead=1")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="how long to train")] = 120.0,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two samples")] = 20.0,
    png: Annotated[Path | None, typer.Option(help="draw the picture in this file")] = None,
    json: Json = None,
) -> None:
    """Train for hours, and show what grows: memory, files, threads, folders."""
    checked = load_config(config, overrides or ())
    from agent_rl.commands.bench.soak import bench_soak

    arguments = [config, *(overrides or ())]
    bench_soak(checked, arguments, minutes=minutes, every=every, png_file=png, json_file=json)


@bench.command("sync")
def sync_(
    model: Annotated[
        str | None,
        typer.Option(
            help="folder or hub name; default: a small one, and SmolLM2-135M's shape, both random"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="updates that are timed")] = 5,
    ray_address: RayAddress = None,
    json: Json = None,
) -> None:
    """Time an update of the served weights against a plain copy of the same bytes.

    On a cluster whose command's node has no free core, the engine is on another node.
    """
    from agent_rl.commands.bench.sync import bench_sync

    bench_sync(model, repeats=repeats, json_file=json)


def _counts(text: str, option: str, *, least: int = 1) -> tuple[int, ...]:
    """Read whole numbers from `least` on, with commas between them; raises `ConfigError`."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= least for part in parts):
        raise ConfigError(f"{option} {text!r}: write whole numbers from {least} on, such as 1,8,64")
    return tuple(map(int, parts))


@bench.command("weights")
def weights_(
    png: Annotated[Path | None, typer.Option(help="draw the picture in this file")] = None,
    json: Json = None,
) -> None:
    """Show the weights of an episode's tokens with one outlier: GMPO, GRPO, GSPO and CISPO."""
    from agent_rl.commands.bench.weights import bench_weights

    bench_weights(png_file=png, json_file=json)
