"""Suggestions for unknown names."""

from envs.nearest import did_you_mean, hint, nearest


def test_the_most_similar_name_is_nearest() -> None:
    assert nearest("trian", ["train", "brain", "valid"]) == "train"


def test_a_shortened_name_means_the_only_one_that_begins_so() -> None:
    assert nearest("obs", ["observation", "action"]) == "observation"
    assert nearest("obs", ["observation", "observed_text"]) is None
    assert nearest("ob", ["observation", "action"]) is None


def test_nothing_similar_is_none() -> None:
    assert nearest("zzz", ["train", "valid"]) is None
    assert nearest("train", []) is None


def test_the_question_names_the_nearest() -> None:
    assert did_you_mean("trian", ["train", "valid"]) == "did you mean 'train'?"
    assert did_you_mean("zzz", ["train", "valid"]) == ""


def test_a_hint_suggests_the_nearest_name() -> None:
    assert hint("mug", ["cup", "mugs"]) == "; did you mean 'mugs'?"


def test_a_hint_lists_all_names_if_none_is_near() -> None:
    assert hint("x", ["cup", "mugs"]) == "; known: cup, mugs"
    assert hint("x", ["cup"], label="known keys here") == "; known keys here: cup"


def test_a_hint_of_nothing_is_empty() -> None:
    assert hint("x", []) == ""


def test_any_iterable_will_do() -> None:
    assert hint("x", (name for name in ("cup", "mugs"))) == "; known: cup, mugs"
    assert hint("cups", {"cup": 1}) == "; did you mean 'cup'?"
