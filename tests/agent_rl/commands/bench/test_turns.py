"""The turns of an episode as requests, and their distribution over rounds and engines."""

from agent_rl.commands.bench.turns import Load, rounds, turn_requests
from tests.builders.episodes import trajectory, turn


def test_the_requests_of_an_episode_by_hand() -> None:
    episode = trajectory(turn((1, 17, 4), (21, 2)), turn((9, 4), (22, 23, 2)))
    first, second = turn_requests(episode, seed=0)
    assert (first.prompt, first.tokens) == ((1, 17, 4), 2)
    assert (second.prompt, second.tokens) == ((1, 17, 4, 21, 2, 9, 4), 3)
    assert first.seed != second.seed
    assert [first, second] == turn_requests(episode, seed=0)
    assert first.seed != turn_requests(episode, seed=1)[0].seed


def test_a_batch_waits_for_its_longest_episode() -> None:
    one, three, two = (trajectory(*[turn()] * count) for count in (1, 3, 2))
    played = [(number, [len(e.turns) for e in who]) for number, who in rounds([one, three, two], 2)]
    assert played == [(0, [1, 3]), (1, [3]), (2, [3]), (0, [2]), (1, [2])]


def test_engines_share_episodes_and_places() -> None:
    episodes = [trajectory(*[turn()] * count) for count in range(1, 8)]
    load = Load(episodes=episodes, places=5, temperature=1.0, seed=0)
    (alone,) = load.parts(1)
    assert (alone.episodes, alone.places) == (episodes, 5)
    first, second = load.parts(2)
    assert first.episodes + second.episodes == episodes
    assert (len(first.episodes), first.places) == (3, 3)
    assert (len(second.episodes), second.places) == (4, 2)
    assert first.seed != second.seed
    # An engine without a place has no episode either.
    assert len(Load(episodes=episodes, places=1, temperature=1.0, seed=0).parts(2)) == 1
