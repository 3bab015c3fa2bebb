"""The figures of a study's tables, computed by hand, and the page that shows them."""

from typing import Any

import pytest

from g2t.metrics import difference
from g2t.study.page import page_of
from g2t.study.table import rank, table_of

# Student's t at 97.5 %, from a printed table.
T = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}


def scored(
    test: float, val: float = 0.5, teacher: float = 0.8, k_0: float | None = None
) -> dict[str, Any]:
    by_hops = {} if k_0 is None else {"0": {"val": 0.1, "test": k_0}}
    return {
        "metric": "accuracy",
        "student": {"val": val, "test": test, "by_hops": by_hops},
        "teacher": {"val": 0.7, "test": teacher},
        "agreement": 0.9,
    }


def runs(*tests: float, val: float = 0.5) -> dict[int, dict[str, Any]]:
    return {seed: scored(test, val) for seed, test in enumerate(tests)}


def test_a_difference_is_that_of_pairs_with_student_s_interval() -> None:
    # Differences 0.02, 0.04, 0.03, 0.05, 0.01: mean 0.03, deviation √0.00025, error √0.00005.
    mine = {0: 0.82, 1: 0.74, 2: 0.93, 3: 0.65, 4: 0.71}
    rival = {0: 0.80, 1: 0.70, 2: 0.90, 3: 0.60, 4: 0.70}
    found = difference(mine, rival)
    assert found is not None
    assert found["n"] == 5
    assert found["mean"] == pytest.approx(0.03)
    error = 0.00005**0.5
    assert found["standard_error"] == pytest.approx(error)
    assert found["low"] == pytest.approx(0.03 - T[4] * error, abs=1e-6)
    assert found["high"] == pytest.approx(0.03 + T[4] * error, abs=1e-6)
    assert found["clear"]
    back = difference(rival, mine)
    assert back is not None
    assert (back["low"], back["high"]) == pytest.approx((-found["high"], -found["low"]))
    assert back["clear"]


def test_only_common_seeds_are_paired() -> None:
    found = difference({0: 0.5, 2: 0.7, 3: 0.9}, {2: 0.6, 3: 0.9, 4: 0.1})
    assert found is not None
    # Differences 0.1 and 0: mean 0.05, deviation 0.1 / √2, error 0.05.
    assert (found["n"], found["mean"]) == (2, pytest.approx(0.05))
    assert found["high"] == pytest.approx(0.05 + T[1] * 0.05, abs=1e-5)
    assert not found["clear"]
    assert difference({0: 0.5}, {1: 0.5}) is None


@pytest.mark.parametrize(
    ("mine", "error"), [({0: 0.6}, None), ({0: 0.6, 1: 0.7}, 0.0), ({0: 0.5, 1: 0.6}, 0.0)]
)
def test_one_seed_or_equal_differences_make_no_interval(
    mine: dict[int, float], error: float | None
) -> None:
    found = difference(mine, {0: 0.5, 1: 0.6})
    assert found is not None
    assert (found["low"], found["high"], found["clear"]) == (None, None, False)
    assert found["standard_error"] == error


def test_a_pair_of_rivals_is_one_comparison() -> None:
    done = {"none": runs(0.5, 0.6), "soft": runs(0.7, 0.75), "new": runs(0.8, 0.95)}
    table = table_of(done, ["soft", "none"])
    assert table["comparisons"] == 3  # none-soft, new-soft, new-none
    assert [set(row["minus"]) for row in table["rows"]] == [{"soft"}, {"none"}, {"soft", "none"}]
    assert table["rows"][2]["minus"]["soft"]["mean"] == pytest.approx(0.15)


def test_a_table_holds_what_was_run_and_the_teacher_of_each_seed() -> None:
    done = {
        "none": {1: scored(0.5, teacher=0.9)},
        "soft": {0: scored(0.6, teacher=0.8), 1: scored(0.7, teacher=0.9)},
        "late": {},
    }
    table = table_of(done, ["soft", "none"])
    assert [row["variant"] for row in table["rows"]] == ["none", "soft"]
    assert table["teacher"]["seeds"] == [0, 1]
    assert table["teacher"]["test"]["values"] == [0.8, 0.9]
    assert table["rows"][0]["minus"]["soft"] == {
        "n": 1,
        "mean": pytest.approx(-0.2),
        "standard_error": None,
        "low": None,
        "high": None,
        "clear": False,
    }
    assert table["comparisons"] == 0
    empty = table_of({"soft": {}}, ["soft"])
    assert (empty["rows"], empty["teacher"], empty["comparisons"]) == ([], None, 0)


def test_a_score_that_there_is_not_is_no_pair() -> None:
    blind = {0: scored(0.6), 1: scored(0.6)}
    blind[1]["student"]["test"] = None
    table = table_of({"soft": runs(0.5, 0.5), "new": blind}, ["soft"])
    row = table["rows"][1]
    assert (row["test"]["mean"], row["test"]["values"]) == (None, [0.6, None])
    assert row["minus"]["soft"]["n"] == 1


def test_variants_are_ranked_by_validation_alone_and_tables_count_alike() -> None:
    one = {"soft": runs(0.5, 0.5), "a": runs(0.1, 0.1, val=0.6), "b": runs(0.9, 0.9, val=0.55)}
    two = {"soft": runs(0.5), "a": runs(0.1, val=0.5), "b": runs(0.9, val=0.65)}
    tables = [{"tier": "x", **table_of(done, ["soft"])} for done in (one, two)]
    ranked = rank(tables, "soft")
    assert list(ranked) == ["x"]
    assert [entry["variant"] for entry in ranked["x"]] == ["b", "a"]
    assert [entry["gain"] for entry in ranked["x"]] == pytest.approx([0.1, 0.05])
    assert [entry["tables"] for entry in ranked["x"]] == [2, 2]


def page(done: dict[str, Any], not_run: list[dict[str, Any]]) -> str:
    place = {"tier": "a", "recipe": "r", "setting": "transductive", "student": "hop"}
    table = {**place, **table_of(done, ["soft"])}
    return page_of(
        {
            "title": "T",
            "rivals": ["soft"],
            "confidence": 0.95,
            "comparisons": table["comparisons"],
            "clear": table["clear"],
            "tables": [table],
            "by_validation": rank([table], "soft"),
            "not_run": not_run,
            "command": "g2t run T --out O",
        }
    )


def test_the_page_shows_rows_in_percent_and_marks_what_is_clear() -> None:
    done = {
        "soft": {seed: scored(0.5, k_0=0.4) for seed in range(3)},
        "new": {seed: scored(0.6 + 0.01 * seed, val=0.6, k_0=0.3) for seed in range(3)},
        "like": {seed: scored(0.5 + 0.01 * (seed - 1), k_0=0.3) for seed in range(3)},
    }
    text = page(done, [])
    # new: differences 10, 11, 12: error 1 / √3 = 0.577, half 4.3027 · 0.577 = 2.48.
    assert (
        "| `new` | 3 | 60.00 ± 0.00 | 61.00 ± 1.00 | 30.00 ± 0.00 | 90.00 ± 0.00 | "
        "+11.00 [+8.52, +13.48] * (s.e. 0.58, n = 3) |" in text
    )
    assert "+0.00 [-2.48, +2.48] (s.e. 0.58, n = 3)" in text
    assert "| teacher | 3 | 70.00 ± 0.00 | 80.00 ± 0.00 |  |  |  |" in text
    assert "**Intervals of differences: 2; that exclude 0: 1.**" in text
    assert "Every cell was run." in text
    widths = {line.count("|") for line in text.split("\n## ")[1].splitlines() if line[:1] == "|"}
    assert widths == {8}


def test_the_page_lists_cells_with_commands_and_whole_tables_in_a_line() -> None:
    every = {"state": "not run", "seeds": [0, 1]}
    missing = [
        {**every, "cell": f"a/r/transductive/hop/{name}", "command": f"go {name}"}
        for name in ("soft", "new")
    ]
    none = page({"soft": {}, "new": {}}, missing)
    assert "4 cells and seeds" in none
    assert (
        "- a/r/transductive/hop, all of it (soft, new): "
        "`g2t run T --out O --only 'a/r/transductive/hop/*'`" in none
    )
    assert "go new" not in none
    assert "\n## (a)" not in none
    some = page({"soft": {0: scored(0.5)}, "new": {}}, missing[1:])
    assert "- a/r/transductive/hop/new, seeds 0, 1: `go new`" in some
