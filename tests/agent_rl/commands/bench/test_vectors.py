import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from agent_rl import cli
from agent_rl.commands.bench.vectors import (
    UNKNOWN,
    Case,
    Departure,
    Numbers,
    bench_vectors,
    compared,
    ours,
    read_vectors,
    reckoned,
    summary,
)
from agent_rl.config import ConfigError
from tests.builders.paths import VECTORS

COMMITTED = VECTORS
NAN, INF = math.nan, math.inf
UP = math.exp(0.25)


def case_of(**values: Any) -> dict[str, Any]:
    """Row 0 with advantage 2: log-ratios 0.1, 0.9 (cut to 0.4) and a masked one. Row 1 with
    advantage -1: no tokens.
    """
    return {
        "name": "by hand",
        "eps_low": 0.4,
        "eps_high": 0.4,
        "logp_new": [[-0.9, -0.1, -1.0], [-1.0, -1.0, -1.0]],
        "logp_old": [[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]],
        "mask": [[1, 1, 0], [0, 0, 0]],
        "advantage": [2.0, -1.0],
        "closed": {"loss": -UP, "grad": [[-UP / 2, 0.0, 0.0], [0.0, 0.0, 0.0]]},
        **values,
    }


def numbers(loss: float, row_0: list[float], row_1: list[float] | None = None) -> dict[str, Any]:
    return {"loss": loss, "grad": [row_0, row_1 or [0.0] * 3]}


def test_ours_by_hand() -> None:
    case = Case.model_validate(case_of())
    result = ours(case)
    assert result.loss == pytest.approx(-2 * UP / 2)
    torch.testing.assert_close(result.grad, torch.tensor(case.closed.grad, dtype=torch.float64))
    assert result.clip_fractions == (0.0, 0.5)


def test_ours_equals_the_formula_on_every_committed_case() -> None:
    comparisons = [compared(case) for case in read_vectors(COMMITTED)]
    assert len(comparisons) > 20
    assert max(max(c.closed.loss, c.closed.grad) for c in comparisons) < 1e-12


def test_whole_rows_and_the_agents_tokens_alone_give_the_same() -> None:
    """The two ways in which the module reckons, one of them ours, on what nobody has touched."""
    for case in read_vectors(COMMITTED):
        rows, tokens = reckoned(case, Departure(reason="")), ours(case)
        assert rows.loss == pytest.approx(tokens.loss, rel=1e-12, abs=1e-12), case.name
        torch.testing.assert_close(rows.grad, tokens.grad, rtol=0, atol=1e-12)


LOW, HIGH = math.exp((0.1 + 0.2) / 2), math.exp((0.1 + 0.5) / 2)
FLOAT32 = math.exp((0.1 + float(torch.tensor(0.4))) / 2)
MASKED_INFINITY = {"logp_old": [[-1.0, -1.0, -INF], [-1.0, -1.0, -1.0]]}


@pytest.mark.parametrize(
    ("name", "values", "given", "reason"),
    [
        (
            "trl",
            {},
            numbers(-UP + 0.5, [-UP / 2, 0.0, 0.0]),
            "TRL: each row without agent tokens adds",
        ),
        ("verl", {}, numbers(-UP, [-UP / 2, 0.0, 0.0]), ""),
        (
            "official",
            {"mask": [[1, 1, 0], [1, 1, 1]]},
            None,
            "authors' code: its bounds are float32",
        ),
        (
            "official",
            {},
            numbers(NAN, [-FLOAT32 / 2, 0.0, 0.0]),
            "authors' code: a row without agent tokens is 0 / 0",
        ),
        (
            "official_literal_asym",
            {"eps_low": 0.25, "eps_high": 0.5},
            numbers(-math.exp(0.175), [-math.exp(0.175) / 2, 0.0, 0.0]),
            "authors' code: with two bounds",
        ),
        (
            "verl",
            MASKED_INFINITY,
            numbers(NAN, [NAN, 0.0, NAN]),
            "verl: 0 x infinity = NaN at a masked token",
        ),
        ("trl", MASKED_INFINITY, numbers(-UP, [-UP / 2, 0.0, 0.0]), ""),
        ("verl", {}, numbers(-UP, [-UP / 2, 1e-9, 0.0]), UNKNOWN),
        ("trl", {}, numbers(0.5, [0.0, 0.0, 0.0]), UNKNOWN),
    ],
)
def test_a_reason_is_what_reproduces_the_numbers(
    name: str, values: dict[str, Any], given: dict[str, Any] | None, reason: str
) -> None:
    if given is None:
        rounded = reckoned(
            Case.model_validate(case_of(**values)), Departure(reason="", bounds="float32")
        )
        given = {"loss": rounded.loss, "grad": rounded.grad.tolist()}
    key = name.removesuffix("_literal_asym")
    found = compared(Case.model_validate(case_of(**values, **{name: given}))).others[key].reason
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


def test_a_nan_of_advantage_0_is_explained() -> None:
    case = case_of(
        logp_new=[[999.0, 999.0, -1.0], [-1.0, -1.0, -1.0]],
        mask=[[1, 1, 0], [1, 1, 1]],
        advantage=[0.0, 0.0],
        closed=numbers(0.0, [0.0] * 3),
        trl=numbers(NAN, [NAN, NAN, 0.0]),
    )
    comparison = compared(Case.model_validate(case))
    assert (comparison.closed.loss, comparison.closed.grad) == (0.0, 0.0)
    assert comparison.others["trl"].reason == "TRL: advantage 0 x infinite weight = NaN"


def test_the_summary_names_the_largest_differences() -> None:
    off = Numbers(loss=-UP + 0.25, grad=[[-UP / 2, 0.0, 0.125], [0.0, 0.0, 0.0]])
    cases = [
        Case.model_validate(case_of(trl=numbers(-UP + 0.5, [-UP / 2, 0.0, 0.0]))),
        Case.model_validate(case_of(verl=numbers(7.0, [0.0] * 3))).model_copy(
            update={"closed": off}
        ),
    ]
    lines = summary([compared(case) for case in cases])
    assert lines == [
        "2 cases: at most 2e-01 from the formula in the loss, 1e-01 in the gradient",
        "2 results of others: 0 the same as ours, 1 different for a reason above, 1 for none that is known",
    ]


def test_the_table_and_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"cases": [case_of(trl=numbers(NAN, [-UP / 2, 0.0, 0.0]))]}))
    bench_vectors(path, json_file=tmp_path / "new" / "differences.json")
    printed = capsys.readouterr().out
    assert "NaN ?" in printed
    assert "?  no known reason" in printed
    (record,) = json.loads((tmp_path / "new" / "differences.json").read_text())
    assert record["case"] == "by hand"
    assert record["others"]["trl"]["reason"] == UNKNOWN


def test_the_command() -> None:
    result = CliRunner().invoke(cli.app, ["bench", "vectors", str(COMMITTED)])
    assert result.exit_code == 0
    assert "25 cases: at most" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file of reference vectors"),
        ('{"cases": [{"na', "not a whole JSON file"),
        ("[]", "the whole: Input should be a valid dictionary"),
        ('{"cases": []}', "holds no case"),
        ('{"cases": [{"name": "x"}]}', r"cases\.0\.eps_low: Field required"),
        (
            json.dumps({"cases": [case_of(mask=[[1, 1, 0]])]}),
            r"cases\.0: mask has not the rows of logp_new",
        ),
        (json.dumps({"cases": [case_of(advantage=[1.0])]}), "there are 1 advantages for 2 rows"),
        (
            json.dumps({"cases": [case_of(trl=numbers(0.0, [0.0]))]}),
            r"trl\.grad has not the rows of logp_new",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        bench_vectors(path, json_file=None)
    assert str(error.value).startswith(str(path))
    assert "gmpo_vectors.json shows the format" in str(error.value)
