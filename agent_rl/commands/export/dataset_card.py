"""The card of a data set of episodes: what the hub shows, and what `load_dataset` reads."""

import json

from agent_rl.config import Config
from agent_rl.display import visible

_ABOUT = {
    "atif": "Each line is an episode in ATIF v1.7 (harbor's RFC 0001).",
    "messages": "Each line is an episode as chat messages; answers with `weight` 0 are masked.",
    "parquet": "Each row is an episode: messages, token ids, mask and log-probs.",
}


def dataset_card(
    run: str, config: Config, form: str, stage: str, episodes: int, *, file: str
) -> str:
    """Return the card as Markdown, with the front matter that the hub reads.

    Args:
        run: the run's name.
        config: the run's config.
        form: the format of the data's file.
        stage: the stage that the episodes are of.
        episodes: their number.
        file: the name of the data's file.
    """
    title = json.dumps(f"Episodes of {run}")
    lines = [
        "---",
        f"pretty_name: {title}",
        "tags: [agent-rl, agent, trajectories]",
        f"configs: [{{config_name: default, data_files: {json.dumps(file)}}}]",
        "---",
        f"# Episodes of {run}",
        "",
        f"{episodes:,} episodes of the environment `{config.env.id}`, from the stage `{stage}` of "
        "a run of agent_rl.",
        _ABOUT[form],
        "",
        f"The policy began as `{config.model.path or 'a model made from scratch'}`.",
    ]
    return visible("\n".join(lines)) + "\n"
