import yaml

from agent_rl.commands.export.dataset_card import dataset_card
from agent_rl.config import Config


def test_the_card_names_the_file_and_the_run() -> None:
    config = Config.model_validate({"run_folder": "r", "env": {"id": "guess-the-number"}})
    card = dataset_card('a "run"', config, "messages", "train", 1234, file="messages.jsonl")
    _, front, text = card.split("---\n")
    head = yaml.safe_load(front)
    assert head["pretty_name"] == 'Episodes of a "run"'
    assert head["configs"] == [{"config_name": "default", "data_files": "messages.jsonl"}]
    assert "1,234 episodes of the environment `guess-the-number`, from the stage `train`" in text
    assert "The policy began as `a model made from scratch`." in text
