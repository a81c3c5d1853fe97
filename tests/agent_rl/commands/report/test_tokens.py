"""The texts of token ids."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models

from agent_rl.commands.report.tokens import token_texts, tokenizer_file
from agent_rl.config import Config
from agent_rl.config.model import ModelSettings
from agent_rl.runs.layout import RunLayout
from tests.builders.reports import real_episodes, write_episodes


def test_the_texts_of_an_action_are_its_text(tmp_path: Path) -> None:
    write_episodes(tmp_path)
    turn = real_episodes()[0].turns[0]
    file = tokenizer_file(RunLayout(tmp_path), None)
    texts = token_texts(file, turn.completion.token_ids)
    said = "".join(texts[token] for token in turn.completion.token_ids)
    assert said == turn.action.text + "<|end|>"


def test_the_newest_tokenizer_counts(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "run")
    config = Config(run_folder="", model=ModelSettings(path=str(tmp_path)))
    assert tokenizer_file(run, config) is None
    for folder in (tmp_path, run.init, run.sft.model, run.train.checkpoint(3) / "model"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").touch()
        found = tokenizer_file(run, config)
        assert found is not None
        assert found.parent == folder


def test_a_word_keeps_its_space(tmp_path: Path) -> None:
    # As in SentencePiece's vocabularies, whose decoder drops the space of a first word.
    tokenizer = Tokenizer(models.WordLevel({"\u2581take": 0, "\u2581mugs": 1, "s": 2}, "s"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer.decode([0]) == "take"
    assert token_texts(tmp_path / "tokenizer.json", [0, 1, 2]) == {0: " take", 1: " mugs", 2: "s"}


def test_ids_without_a_text_are_left_out(tmp_path: Path) -> None:
    assert token_texts(None, [1]) == {}
    (tmp_path / "tokenizer.json").write_text("{")
    assert token_texts(tmp_path / "tokenizer.json", [1]) == {}
