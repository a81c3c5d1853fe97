from agent_rl.runs.chats import ChatTurn, chat_from_messages, chat_turns, messages_record
from rollouts import FinishReason
from tests.builders.episodes import trajectory, turn
from tests.builders.stored_runs import LOOK, won


def test_an_episode_is_a_line_of_messages_with_its_mask() -> None:
    record = messages_record(won(LOOK), episode_id="1/1/1", system="Be brief.")
    assert record == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "You see a desk 1."},
            {"role": "assistant", "content": "fly", "weight": 0},  # the environment refused it
            {"role": "user", "content": "Nothing happens."},
            {"role": "assistant", "content": "take mug 3", "weight": 1},
        ],
        "id": "1/1/1",
        "env": "e",
        "split": "train",
        "family": "look",
        "task": "look1",
        "success": True,
        "return": 1.0,
    }
    read = chat_from_messages(record)
    assert read.turns == chat_turns(won(LOOK))
    assert (read.id, read.task, read.family, read.success) == ("1/1/1", "look1", "look", True)


def test_a_cut_thought_is_one_answer_with_its_action_and_an_answer_that_was_cut_is_masked() -> None:
    played = trajectory(
        turn(text="<think>hm", kind="thought", command=None),
        turn(text="<think>hm</think><action>look</action>"),
        turn(text="<think>hm, I", command=None, finish_reason=FinishReason.LENGTH),
    )
    assert [(t.answer, t.trained) for t in chat_turns(played)] == [
        ("<think>hm</think><action>look</action>", True),
        ("<think>hm, I", False),
    ]


def test_a_thought_that_the_template_began_gets_its_begin() -> None:
    (said,) = chat_turns(trajectory(turn(text="hm\n</think>\n<action>look</action>")))
    assert said.answer == "<think>\nhm\n</think>\n<action>look</action>"


def test_files_of_other_programs_are_read() -> None:
    said = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "the end")]
    messages = [{"role": role, "content": content} for role, content in said]
    chat = chat_from_messages({"messages": messages, "id": 7, "task": {"any": "thing"}})
    assert chat.turns == (ChatTurn(observation="a\n\nb", answer="c"),)
    assert (chat.id, chat.success) == ("7", False)
