"""The text for a tokenizer, from environments that work and from ones that fail."""

import asyncio
import re
import time
from typing import Any

import pytest

from agent_rl.commands.stages.corpus import corpus
from agent_rl.commands.stages.init import init
from agent_rl.config import Config, load_config
from agent_rl.policy.from_scratch import train_tokenizer
from envs import Task, TextEnv
from tests.builders.paths import ROOT


class Shop(TextEnv):
    """Three tasks without an end; the tasks in `fail` have the fault that is named there."""

    splits = ("train",)

    def __init__(self, fail: dict[str, str] | None = None) -> None:
        self._fail = fail or {}
        self._fault: str | None = None
        self._bought = 0

    def tasks(self, split: str) -> list[Task]:
        return [
            Task(env_id="shop", split=split, family="f", id=name)
            for name in ("bread", "cheese", "wine")
        ]

    def words(self) -> list[str]:
        return ["baguette"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        assert options is not None
        task: Task = options["task"]
        self._fault, self._bought = self._fail.get(task.id), 0
        if self._fault == "number":
            return 3, self._info()  # type: ignore[return-value]
        if self._fault == "refused":
            raise ValueError("the shop has moved")
        return f"You want {task.id}.", self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._fault == "raise":
            raise RuntimeError("closed")
        self._bought += 1
        text = "\ud800" if self._fault == "half" else f"You have {self._bought}."
        return text, 0.0, False, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {
            "success": False,
            "admissible_commands": [f"buy {self._bought}", f"eat {self._bought}"],
        }


class FussyShop(Shop):
    """A shop that refuses every command it does not offer."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        offered = self._info()["admissible_commands"]
        text, *rest = super().step(action)
        return text if action in offered else "There is none.", *rest  # type: ignore[return-value]


class SleepyShop(Shop):
    """A shop that never returns from the call that is named for `bread`."""

    def __init__(self, fail: dict[str, str] | None = None) -> None:
        super().__init__(fail)
        self._sleep_in("make")

    def _sleep_in(self, call: str) -> None:
        if self._fail.get("bread") == call:
            time.sleep(100)

    def tasks(self, split: str) -> list[Task]:
        self._sleep_in("tasks")
        return super().tasks(split)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        assert options is not None
        if options["task"].id == "bread":
            self._sleep_in("reset")
        return super().reset(seed=seed, options=options)


class AskingShop(Shop):
    """A shop that runs an event loop of its own wherever it is called."""

    def __init__(self, fail: dict[str, str] | None = None) -> None:
        super().__init__(fail)
        asyncio.run(asyncio.sleep(0))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        asyncio.run(asyncio.sleep(0))
        return super().step(action)


def config(shop: type[Shop] = Shop, seed: int = 0, **fail: str) -> Config:
    env = {"id": f"{__name__}:{shop.__name__}", "options": {"fail": fail}}
    return Config.model_validate(
        {"run_folder": "nowhere", "seed": seed, "env": env, "episode": {"max_turns": 2}}
    )


def test_it_holds_all_that_is_shown_and_offered_in_ten_turns() -> None:
    texts = corpus(config())
    assert [texts.count(f" baguette{number}") for number in ("", " 1", " 9", " 10")] == [
        20,
        20,
        20,
        0,
    ]
    assert [text for text in texts if "want" in text] == [
        "You want bread.",
        "You want cheese.",
        "You want wine.",
    ]
    assert [texts.count(f"You have {number}.") for number in (1, 10, 11)] == [3, 3, 0]
    for kind in ("buy {}", "eat {}"):
        assert [texts.count(kind.format(number)) for number in (1, 9, 10)] == [3, 3, 0], (
            "one choice for each turn"
        )


def test_every_walk_makes_its_own_mistakes() -> None:
    # 20 seeds of 3 walks of 10 turns, of which one in 20 is refused: if the walks of a seed
    # were alike, the number of their refusals would be a multiple of 3.
    refused = [corpus(config(FussyShop, seed=seed)).count("There is none.") for seed in range(20)]
    assert any(number % 3 for number in refused)
    assert 10 < sum(refused) < 120


def test_the_demos_policy_reads_a_refusal_in_three_tokens() -> None:
    demo = load_config(ROOT / "configs" / "demo.yaml")
    tokenizer = train_tokenizer(corpus(demo), demo.model.vocab_size, demo.model.tokens_within)
    assert len(tokenizer.encode("Nothing happens.")) == 3
    assert len(tokenizer.encode("go to sidetable 2")) == 3, "a name and its number are one"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("number", "reset of task 'bread' returned an int as observation"),
        ("raise", "task 'bread': step '(buy|eat) 0': RuntimeError: closed"),
        ("refused", "reset of task 'bread': ValueError: the shop has moved"),
        (
            "half",
            "task 'bread': step '(buy|eat) 0' returned as observation a text that cannot be "
            "written as UTF-8",
        ),
    ],
)
def test_a_walk_that_fails_is_left_out(
    fault: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = corpus(config(bread=fault))
    assert [text for text in texts if "want" in text] == ["You want cheese.", "You want wine."]
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(f"1 of 3 tasks could not be played and are left out; the first: {error}", line)


def test_an_environment_that_always_fails_makes_no_policy() -> None:
    message = (
        r"^env.id .*:Shop: 3 of 3 tasks could not be played; the first: "
        r"task 'bread': step .*: closed; "
    )
    with pytest.raises(ValueError, match=message):
        init(config(bread="raise", cheese="raise", wine="raise"))


def test_more_tasks_than_may_fail_make_no_policy() -> None:
    with pytest.raises(ValueError, match=r"2 of 3 tasks could not be played.*max_failed_share"):
        corpus(config(bread="raise", wine="refused"))


@pytest.mark.parametrize("call", ["make", "tasks"])
def test_a_call_that_never_returns_is_named(call: str) -> None:
    patient = config(SleepyShop, bread=call)
    tight = {"episode": patient.episode.model_copy(update={"env_timeout_seconds": 0.2})}
    named = {"make": "its constructor", "tasks": r"its tasks\('train'\)"}[call]
    with pytest.raises(ValueError, match=rf"{named} had not .*episode\.env_timeout_seconds"):
        corpus(patient.model_copy(update=tight))


def test_a_walk_that_hangs_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    patient = config(SleepyShop, bread="reset")
    tight = {"episode": patient.episode.model_copy(update={"env_timeout_seconds": 0.5})}
    texts = corpus(patient.model_copy(update=tight))
    assert [text for text in texts if "want" in text] == ["You want cheese.", "You want wine."]
    assert "reset had not come back after 0.5 seconds" in capsys.readouterr().out


def test_an_environment_may_run_a_loop_of_its_own_also_in_a_notebook() -> None:
    async def cell() -> list[str]:
        return corpus(config(AskingShop))

    assert "You want bread." in asyncio.run(cell())
