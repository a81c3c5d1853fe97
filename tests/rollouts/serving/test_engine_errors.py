"""vLLM's own cause, on one line."""

import pytest
from pydantic import ValidationError

from rollouts import ServingSettings
from rollouts.serving.engine_errors import root_cause, start_failure


def chained() -> None:
    try:
        raise MemoryError("no room for\n  64 blocks.")
    except MemoryError as error:
        raise RuntimeError("see the root cause above") from error


def test_the_cause_is_the_first_error_of_a_chain() -> None:
    with pytest.raises(RuntimeError) as error:
        chained()
    assert root_cause(error.value) == "MemoryError: no room for 64 blocks"


def test_the_cause_leaves_out_the_input_of_settings() -> None:
    with pytest.raises(ValidationError) as error:
        ServingSettings(threads=0)
    assert root_cause(error.value) == "Input should be greater than or equal to 1"


def test_what_another_process_did_not_log_stays_as_it_is() -> None:
    error = RuntimeError("Engine core initialization failed in a background process.")
    assert start_failure(error) == (
        "RuntimeError: Engine core initialization failed in a background process"
    )
