import json
from importlib import metadata

import pytest

from agent_rl.runs.atif import AtifSource, atif_record, chat_from_atif, is_atif
from agent_rl.runs.chats import ChatTurn, chat_turns
from rollouts import PromptSettings, Trajectory
from tests.builders.atif import assert_atif
from tests.builders.episodes import trajectory, turn
from tests.builders.stored_runs import LOOK, won

SOURCE = AtifSource(run="demo", model="demo", prompt=PromptSettings(system="Be brief."))


def test_an_episode_with_its_tokens_rewards_and_replies() -> None:
    record = atif_record(won(LOOK), episode_id="12/3/5", source=SOURCE)
    assert_atif(record)
    assert json.loads(json.dumps(record)) == record
    assert record["session_id"] == "demo/12/3/5"
    assert record["agent"]["version"] == metadata.version("agent-rl")
    system, user, refused, taken = record["steps"]
    assert (system["message"], user["message"]) == ("Be brief.", "You see a desk 1.")
    assert refused["observation"] == {"results": [{"content": "Nothing happens."}]}
    assert refused["extra"]["admissible"] is False
    assert taken["observation"] == {"results": [{"content": "You won."}]}
    # The prompt of turn 2 is 1 5, the answer 7 2, and 6.
    assert taken["metrics"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "completion_token_ids": [8, 9, 2],
        "logprobs": [-0.5, -0.5, -0.5],
    }
    assert record["final_metrics"] == {
        "total_prompt_tokens": 7,
        "total_completion_tokens": 5,
        "total_steps": 4,
    }
    assert record["extra"]["return"] == 1.0


def with_thoughts() -> Trajectory:
    """A thought that was cut off with its action, a summary, and an action in a new prompt."""
    return trajectory(
        turn((1,), (3,), text="<think>hm", command=None, kind="thought"),
        turn((4,), (5, 2), text="<think>hm</think>\n<action>look</action>"),
        turn((6,), (7, 2), observation="o\n\nSum up.", text="a desk", command=None, kind="summary"),
        turn((1, 8), (9, 2), text="<action>go</action>", command="go", new_prompt=True),
    )


def test_thoughts_summaries_and_new_prompts() -> None:
    record = atif_record(with_thoughts(), episode_id="1/1/1", source=SOURCE)
    assert_atif(record)
    _, _, thought, summary, asked_again, action = record["steps"]
    assert (thought["reasoning_content"], thought["llm_call_count"]) == ("hm", 2)
    assert thought["message"] == "\n<action>look</action>"
    assert thought["metrics"]["completion_token_ids"] == [3, 5, 2]
    assert thought["metrics"]["prompt_tokens"] == 1 + 3
    assert thought["observation"]["results"][0]["content"] == "o\n\nSum up."
    assert summary["extra"]["kind"] == "summary"
    assert (asked_again["source"], asked_again["message"]) == ("user", "o")
    assert action["metrics"]["prompt_tokens"] == 2


def test_an_experts_answer_took_no_call_of_a_model() -> None:
    record = atif_record(won(LOOK, policy_version=-1), episode_id="sft/1", source=SOURCE)
    assert_atif(record)
    assert [step["llm_call_count"] for step in record["steps"][2:]] == [0, 0]


@pytest.mark.parametrize("episode", [won(LOOK), with_thoughts()])
def test_it_is_read_back_as_the_messages_are(episode: Trajectory) -> None:
    record = atif_record(episode, episode_id="1/1/1", source=SOURCE)
    assert is_atif(record)
    assert chat_from_atif(record).turns == chat_turns(episode)


def test_trajectories_of_other_agents_are_read_as_far_as_they_are_text() -> None:
    steps = [
        {"step_id": 1, "source": "user", "message": "a"},
        {"step_id": 2, "source": "agent", "message": "b", "is_copied_context": True},
        {"step_id": 3, "source": "user", "message": "c"},
        {"step_id": 4, "source": "agent", "message": "d", "extra": {"x": 1}},
    ]
    record = {"schema_version": "ATIF-v1.5", "agent": {}, "steps": steps, "extra": {"task": 3}}
    assert chat_from_atif(record).turns == (
        ChatTurn(observation="a", answer="b", trained=False),
        ChatTurn(observation="c", answer="d"),
    )
    steps[3]["tool_calls"] = [{"tool_call_id": "1"}]
    with pytest.raises(ValueError, match="step 4 is a tool call"):
        chat_from_atif(record)
