"""Value iteration: the best actions in a small world with known transitions."""

Transitions = dict[int, dict[int, list[tuple[float, int, float, bool]]]]
"""Outcomes by state and action, as gymnasium's toy worlds list them in `P`.

An outcome is its probability, the next state, the reward, and whether it ends the episode.
"""

_DISCOUNT = 0.99
"""Below 1, so that a short way is worth more than a long one."""
_TOLERANCE = 1e-9
"""The iteration ends when no value changes by more than this."""


def best_actions(table: Transitions) -> dict[int, int]:
    """Find the action with the highest discounted return for each state.

    Among equal actions, the one with the lowest number is chosen.
    """
    values = dict.fromkeys(table, 0.0)
    change = 1.0
    while change > _TOLERANCE:
        change = 0.0
        for state, actions in table.items():
            best = max(_expected_return(outcomes, values) for outcomes in actions.values())
            change = max(change, abs(best - values[state]))
            values[state] = best
    best_by_state = {}
    for state, actions in table.items():
        # Rounding makes returns equal that differ by the iteration's error only.
        returns = {
            action: round(_expected_return(outcomes, values), 6)
            for action, outcomes in actions.items()
        }
        best_by_state[state] = max(returns, key=lambda action: (returns[action], -action))
    return best_by_state


def steps_to_the_end(table: Transitions, best: dict[int, int], state: int) -> int:
    """Count the best actions that lead from a state to the end, in a world without chance.

    Args:
        table: the world; each action has one outcome.
        best: the action to take in each state.
        state: the state to begin in.
    """
    for count in range(1, len(table) + 1):
        [(_, state, _, ends)] = table[state][best[state]]
        if ends:
            return count
    raise AssertionError("the best actions do not end the episode")


def _expected_return(
    outcomes: list[tuple[float, int, float, bool]], values: dict[int, float]
) -> float:
    """The expected discounted return of an action, given the values of the states."""
    total = 0.0
    for probability, state, reward, ends in outcomes:
        future = 0.0 if ends else _DISCOUNT * values[state]
        total += probability * (reward + future)
    return total
