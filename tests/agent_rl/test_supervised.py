from agent_rl.supervised import expert_sample
from envs import Task
from rollouts import Completion, FinishReason, ParsedAction, StopReason, Trajectory, Turn


def two_turns() -> Trajectory:
    def turn(prompt: tuple[int, ...], ids: tuple[int, ...]) -> Turn:
        return Turn(
            observation="o",
            prompt_token_ids=prompt,
            completion=Completion(
                token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason=FinishReason.STOP, policy_version=-1
            ),
            action=ParsedAction(text="a", command="a"),
            admissible=True,
            reward=0.0,
        )

    return Trajectory(
        task=Task(env_id="e", split="s", family="f", id="t"),
        turns=(turn((1, 17, 4), (21, 2)), turn((9, 4), (22, 23, 2))),
        stop_reason=StopReason.SUCCESS,
        success=True,
    )


def test_an_epoch_trains_the_experts_tokens_and_reading_trains_all_but_the_first() -> None:
    imitated = expert_sample(two_turns(), read=False)
    assert imitated.token_ids == (1, 17, 4, 21, 2, 9, 4, 22, 23, 2)
    assert [int(bit) for bit in imitated.action_mask] == [0, 0, 0, 1, 1, 0, 0, 1, 1, 1]
    assert [int(bit) for bit in expert_sample(two_turns(), read=True).action_mask] == [0, *[1] * 9]
