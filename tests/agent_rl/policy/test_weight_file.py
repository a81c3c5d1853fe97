import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from agent_rl.policy.folder import check_folder
from agent_rl.policy.weight_file import Form, write_tensors
from tests.builders.models import save_policy

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "half": torch.tensor([1.5, -2.0, 3.0]).bfloat16(),
    "flag": torch.tensor([True, False, True]),
    "count": torch.tensor(7),
    "exact": torch.tensor([0.1], dtype=torch.float64),
    "empty": torch.zeros(0, 4),
}


ONES = torch.ones(1000)


def forms_of(tensors: dict[str, Tensor]) -> dict[str, Form]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("names", [list(TENSORS), list(reversed(TENSORS))])
def test_other_programs_read_what_is_written_in_any_order(names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"an older and longer file" * 100)
    write_tensors(path, forms_of(TENSORS), ((n, TENSORS[n]) for n in names), {"format": "pt"})
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(read[name], tensor), name
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_tensor_is_asked_for_when_the_one_before_is_written(tmp_path: Path) -> None:
    path, sizes = tmp_path / "model.safetensors", []
    ones = {str(number): torch.ones(1 << 18) for number in range(4)}

    def one_by_one() -> object:
        for item in ones.items():
            sizes.append(path.stat().st_size)
            yield item

    write_tensors(path, forms_of(ones), one_by_one(), {})  # type: ignore[arg-type]
    assert [size >> 20 for size in sizes] == [0, 1, 2, 3]


def test_the_file_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "model", 0)
    weights = load_file(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", forms_of(weights), weights.items(), {})
    check_folder(folder)


def test_a_tensor_of_another_form_or_too_few_are_no_file(tmp_path: Path) -> None:
    forms = forms_of({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(AssertionError, match="tensors are missing: b"):
        write_tensors(tmp_path / "file", forms, [("a", torch.zeros(2))], {})
    with pytest.raises(AssertionError):
        write_tensors(tmp_path / "file", forms, [("a", torch.zeros(3))], {})


def test_a_file_that_cannot_be_written_is_the_systems_error(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / "file", forms_of({"a": ONES}), [("a", ONES)], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
