import json
from pathlib import Path
from typing import Any

import pytest

from rollouts.rendering.end_tokens import end_ids, end_ids_of_folder


def test_one_end_several_or_none() -> None:
    assert end_ids(None, "") == ()
    assert end_ids(0, "") == (0,)
    assert end_ids([7, 3], "") == (7, 3)


@pytest.mark.parametrize("value", ["</s>", [1, "2"], True, [None], -1, {"a": 1}])
def test_what_is_no_id_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"file: eos_token_id: .* is no token id"):
        end_ids(value, "file")


def test_a_folder_names_its_ends_in_two_files(tmp_path: Path) -> None:
    assert end_ids_of_folder(tmp_path) == ()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert end_ids_of_folder(tmp_path) == (3,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 5]}))
    assert end_ids_of_folder(tmp_path) == (3, 5)
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(ValueError, match=r"generation_config\.json"):
        end_ids_of_folder(tmp_path)
