from dataclasses import replace

import pytest

from rollouts import FinishReason, StopReason, TrajectoryGroup
from tests.builders.episodes import TASK, group, trajectory, turn

EPISODE = trajectory(
    turn((1, 17, 4), (21, 2), reward=-0.25, admissible=False),
    turn((9, 4), (22, 23, 2), reward=1.0),
)


def test_the_worked_example() -> None:
    assert EPISODE.token_ids == (1, 17, 4, 21, 2, 9, 4, 22, 23, 2)
    assert EPISODE.action_mask == tuple(map(bool, (0, 0, 0, 1, 1, 0, 0, 1, 1, 1)))
    assert EPISODE.behavior_logprobs == (0.0, 0.0, 0.0, -0.5, -0.5, 0.0, 0.0, -0.5, -0.5, -0.5)
    assert (EPISODE.episode_return, EPISODE.invalid_actions) == (0.75, 1)


def test_an_invalid_action_that_repeats_the_invalid_one_before_is_counted() -> None:
    """go (refused), go (refused, repeats), a thought, go (refused, repeats), go (accepted), go
    (refused, after one that was not), other (refused, another), the unparsable "other" (refused:
    it says the same).
    """
    turns = (
        turn(command="go", admissible=False),
        turn(command="go", admissible=False),
        turn(command=None, kind="thought"),
        turn(command="go", admissible=False),
        turn(command="go"),
        turn(command="go", admissible=False),
        turn(command="other", admissible=False),
        turn(text="other", command=None, admissible=False),
    )
    episode = trajectory(*turns)
    assert (episode.invalid_actions, episode.repeated_refusals) == (6, 3)
    assert trajectory(turn()).repeated_refusals == 0


def test_a_new_prompt_begins_a_part() -> None:
    episode = replace(
        EPISODE, turns=(*EPISODE.turns, turn((1, 9), (2,), new_prompt=True), turn((4,), (5, 2)))
    )
    first, second = episode.parts
    assert first.token_ids == (1, 17, 4, 21, 2, 9, 4, 22, 23, 2)
    assert second.token_ids == (1, 9, 2, 4, 5, 2)
    assert second.action_mask == tuple(map(bool, (0, 0, 1, 0, 1, 1)))
    assert second.behavior_logprobs == (0.0, 0.0, -0.5, 0.0, -0.5, -0.5)
    assert episode.token_ids == first.token_ids + second.token_ids
    assert episode.action_mask == first.action_mask + second.action_mask
    assert [part.turns for part in EPISODE.parts] == [EPISODE.turns]
    failed = replace(EPISODE, turns=(), stop_reason=StopReason.ENV_ERROR, success=False)
    assert failed.parts == ()


def test_what_says_nothing_about_the_policy_does_not_train() -> None:
    silent = {reason for reason in StopReason if not reason.trains}
    assert silent == {
        StopReason.ENV_ERROR,
        StopReason.POLICY_ERROR,
        StopReason.QUIT,
    }


def test_a_success_is_one_ending_and_no_other() -> None:
    with pytest.raises(AssertionError):
        replace(EPISODE, success=False)
    with pytest.raises(AssertionError):
        replace(EPISODE, stop_reason=StopReason.MAX_TURNS)


def test_an_episode_without_turns_is_a_failure_of_others_or_of_room() -> None:
    with pytest.raises(AssertionError):
        replace(EPISODE, turns=(), stop_reason=StopReason.MAX_TURNS, success=False)
    for reason in (StopReason.ENV_ERROR, StopReason.CONTEXT_FULL):
        assert replace(EPISODE, turns=(), stop_reason=reason, success=False).token_ids == ()


def test_a_completion_has_a_log_prob_for_every_token() -> None:
    completion = EPISODE.turns[0].completion
    with pytest.raises(AssertionError):
        replace(completion, logprobs=(-0.5,))
    with pytest.raises(AssertionError, match="at least one token"):
        replace(completion, token_ids=(), logprobs=())


def test_the_runs_of_versions_cover_a_completion() -> None:
    completion = replace(EPISODE.turns[1].completion, versions=((4, 0), (6, 1)))
    assert completion.policy_version == 4
    for wrong in ((), ((4, 1),), ((4, 0), (6, 0)), ((4, 0), (6, 3))):
        with pytest.raises(AssertionError):
            replace(completion, versions=wrong)


def test_a_completion_is_cut_with_its_versions() -> None:
    whole = replace(EPISODE.turns[1].completion, versions=((4, 0), (6, 2)), seconds=0.5)
    cut = whole.cut(2, FinishReason.STOP_TEXT)
    assert (cut.token_ids, cut.logprobs, cut.versions) == ((22, 23), (-0.5, -0.5), ((4, 0),))
    assert (cut.finish_reason, cut.seconds) == (FinishReason.STOP_TEXT, 0.5)
    assert whole.cut(3, whole.finish_reason) == whole


def test_what_was_sampled_in_two_requests_is_one_completion() -> None:
    first = turn(ids=(5, 6), finish_reason=FinishReason.LENGTH, policy_version=3).completion
    rest = turn(ids=(7, 8, 2), versions=((3, 0), (4, 1))).completion
    whole = first.with_rest(replace(rest, seconds=0.25))
    assert (whole.token_ids, len(whole.logprobs)) == ((5, 6, 7, 8, 2), 5)
    # Version 3 sampled three ids, and version 4 the last two.
    assert whole.versions == ((3, 0), (4, 3))
    assert (whole.finish_reason, whole.seconds) == (FinishReason.STOP, 0.25)


def test_the_environment_sees_actions_only() -> None:
    cut = turn(ids=(5, 6), finish_reason=FinishReason.LENGTH, kind="thought")
    long = turn(ids=(5, 6), finish_reason=FinishReason.LENGTH, admissible=False)
    summary = turn(kind="summary")
    episode = trajectory(cut, turn(), summary, long, turn())
    assert episode.actions == (episode.turns[1], long, episode.turns[4])
    counted = (episode.truncated_actions, episode.cut_thoughts, episode.invalid_actions)
    assert counted == (1, 1, 1)


def test_a_group_is_of_one_task() -> None:
    other = replace(EPISODE, task=replace(TASK, id="u"))
    with pytest.raises(AssertionError, match="share one task"):
        group(EPISODE, other)
    with pytest.raises(AssertionError, match="at least one episode"):
        TrajectoryGroup(task=TASK, trajectories=())


def test_a_notebook_shows_an_episode_turn_by_turn() -> None:
    episode = trajectory(
        turn(observation="a <b>room</b>\nand more", command="go", reward=1.0),
        turn(observation="", text="thinks", kind="thought"),
        turn(observation="here", text="<script>", command=None, admissible=False),
        stop_reason=StopReason.MAX_TURNS,
        final_observation="the end",
        error="of &",
    )
    html = episode._repr_html_()
    assert "t: max_turns, 2 turns, return +1.00" in html
    shown = [">1<", "a &lt;b&gt;room&lt;/b&gt;\nand more", ">go<", ">+1.00<", ">thought<", ">2<"]
    shown += ["&lt;script&gt;\n(not admissible)", ">the end<", "of &amp;"]
    places = [html.index(text) for text in shown]
    assert places == sorted(places)
    assert "<script>" not in html


def test_a_notebook_shows_an_episode_that_failed_before_its_first_turn() -> None:
    html = trajectory(stop_reason=StopReason.ENV_ERROR, error="it broke")._repr_html_()
    assert "t: env_error, 0 turns, return +0.00" in html
    assert "it broke" in html
