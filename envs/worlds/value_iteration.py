"""The best actions in a small world whose every transition is known, by value iteration."""

Transitions = dict[int, dict[int, list[tuple[float, int, float, bool]]]]
"""State to action to outcomes; of each the probability, the next state, the reward, and whether it
ends the episode.
"""

_DISCOUNT, _CLOSE_ENOUGH = 0.99, 1e-9


def best_actions(table: Transitions) -> dict[int, int]:
    """The action with the highest discounted return for each state; the lowest-numbered one of
    equals.
    """
    values = dict.fromkeys(table, 0.0)

    def worth(outcomes: list[tuple[float, int, float, bool]]) -> float:
        return sum(
            chance * (reward + (0.0 if ends else _DISCOUNT * values[state]))
            for chance, state, reward, ends in outcomes
        )

    change = 1.0
    while change > _CLOSE_ENOUGH:
        change = 0.0
        for state, actions in table.items():
            better = max(map(worth, actions.values()))
            change = max(change, abs(better - values[state]))
            values[state] = better
    return {
        state: max(actions, key=lambda action: (round(worth(actions[action]), 6), -action))
        for state, actions in table.items()
    }


def steps_to_the_end(table: Transitions, best: dict[int, int], state: int) -> int:
    """How many of the best actions lead from `state` to the end, in a world without chance."""
    for count in range(1, len(table) + 1):
        [(_, state, _, ends)] = table[state][best[state]]
        if ends:
            return count
    raise AssertionError("the best actions do not end the episode")
