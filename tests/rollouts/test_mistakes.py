from rollouts.mistakes import Mistakes


def test_mistakes_are_never_what_the_expert_does() -> None:
    admissible = ["take book 1 from bed 1", "look", "go to desk 2"]
    made = [Mistakes(1.0, seed=seed).next("look", admissible) for seed in range(200)]
    accepted = [command for command in made if command in admissible]
    assert set(accepted) == {"take book 1 from bed 1", "go to desk 2"}
    assert 70 < len(accepted) < 130
    # With a name of three (book 1, bed 1, desk 2) in one of three places.
    assert set(made) - set(accepted) == {
        "take bed 1 from bed 1",
        "take desk 2 from bed 1",
        "take book 1 from book 1",
        "take book 1 from desk 2",
        "go to book 1",
        "go to bed 1",
    }
    assert Mistakes(1.0, seed=0).next("look", None) == "look 1"
    assert {Mistakes(0.0, seed=seed).next("look", admissible) for seed in range(50)} == {None}


def test_what_was_offered_earlier_is_refused_now_and_then_again() -> None:
    repeated = 0
    for seed in range(100):
        mistakes = Mistakes(1.0, seed=seed)
        mistakes.next("go to desk 1", [])
        refused = mistakes.next("open desk 1", [])
        assert refused in {"go to desk 1", "go to desk 1 1", "open desk 1 1"}
        repeated += mistakes.next("open desk 1", []) == refused
    assert 40 < repeated < 100
    mistakes = Mistakes(1.0, seed=0)
    assert mistakes.next("look", []) == "look 1"
    assert mistakes.next("look 1", []) != "look 1", "what became right was done as a mistake"
