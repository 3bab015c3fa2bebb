"""What a study's file says, before anything is run: names, cells, patterns, refusals."""

from pathlib import Path

import pytest

from g2t.config import read_config, recipe_names
from g2t.distill.losses import LOSSES
from g2t.errors import UsageError
from g2t.recipe import is_study
from g2t.study import check_study, read_study, select
from tests.pipeline.studies import STUDY, g2t, parsed, written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('tiers.a.variants=["sotf"]', "did you mean soft?"),
        ('tiers.b.chosen=["soft+grma"]', "did you mean soft+gram?"),
        ('tiers.b.chosen=["soft"]', "names 'soft' twice"),
        ('tiers.a.recipes=["cora-cfp"]', "did you mean cora-cpf?"),
        ('tiers.a.settings=["inductive"]', "tiers.a.settings"),
        ("tiers.a.seeds=[0, 0]", "names 0 twice"),
        ("tiers.a.seed=[0]", "unknown setting tiers.a.seed"),
        ('study.rivals=["hard"]', "study.rivals names 'hard'"),
        ('variants.soft.students=["hpo"]', "did you mean hop?"),
        ("variants.soft.loss.lps.share=0.1", "no loss is called 'lps'"),
        ("variants.soft.preset=sotf", "no preset is called 'sotf'"),
        ("variants.soft.model.hop=3", "model.hop"),
        ('tiers.a.students=["hpo"]', "no student is called 'hpo'"),
        ("recipes.small.teach.train.epoch=3", "train.epoch"),
        ("recipes.small.base=croa", "no recipe is called 'croa'"),
    ],
)
def test_a_wrong_study_fails_before_any_work(tmp_path: Path, change: str, said: str) -> None:
    text = STUDY.replace(', students = ["hop"]', "")
    result = g2t("run", written(tmp_path, text), "--set", change, "--out", tmp_path / "out")
    assert result.exit_code == 2, (result.stderr, result.stdout)
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_variants_of_a_student_with_a_second_teacher_have_the_teacher_alone() -> None:
    second = 'hop = { second = "mlp", second_share = 0.3, train = { epochs = 2 }, '
    text = STUDY.replace("hop = { train = { epochs = 2 }, ", second)
    assert text != STUDY
    for recipe in check_study(read_study(parsed(text))).values():
        for name, values in recipe.students.items():
            assert not any(key.startswith("second") for key in values), name
            assert values["train"]["epochs"] == 2  # all else of the recipe's student stays


def test_patterns_and_seeds_choose_cells() -> None:
    study = read_study(parsed())
    assert len(select(study)) == 2 * (3 + 4) + 2
    names = [cell.name for cell in select(study, ["a/*/hop/soft+*", "b/*"])]
    assert names == [
        "a/small/transductive/hop/soft+gram",
        "a/small/transductive/hop/soft+lsp",
        "a/small/production/hop/soft+gram",
        "a/small/production/hop/soft+lsp",
        "b/small/transductive/hop/none",
        "b/small/transductive/hop/soft",
    ]
    late = select(study, seeds=[2])
    assert [(cell.name[0], cell.seeds) for cell in late] == [("b", (2,)), ("b", (2,))]


def test_a_printed_study_is_a_study_again(tmp_path: Path) -> None:
    printed = g2t("run", written(tmp_path), "--set", "tiers.b.seeds=[4]", "--print-config").stdout
    again = written(tmp_path, printed)
    assert g2t("run", again, "--print-config").stdout == printed
    changed = {**parsed()["tiers"]["b"], "seeds": [4]}
    assert (
        read_study(parsed(printed)).tiers["b"]
        == read_study({**parsed(), "tiers": {**parsed()["tiers"], "b": changed}}).tiers["b"]
    )


def test_the_shipped_study_has_every_loss_and_every_term_of_paper() -> None:
    content = read_config("recipe:study-losses")
    assert "study-losses" in recipe_names()
    assert is_study(content)
    study = read_study(content)
    for setting in ("transductive", "production"):
        for student in ("landmark", "hop"):
            cells = select(study, [f"a/cora-cpf/{setting}/{student}/*"], [0])
            variants = {cell.variant for cell in cells}
            assert {"none", "pseudo", "soft", "soft+hard", "paper"} <= variants
            alone = {name.partition("+")[2] for name in variants if name.startswith("soft+")}
            assert alone >= set(LOSSES) - {"soft", "pseudo"} - {"hop_consistency"}
            assert ("hop_consistency" in alone) == (student == "hop")
            left = {name for name in variants if name.startswith("paper-")}
            assert left == {f"paper-{t}" for t in ("soft", "hard", "lsp", "gram", "align")}
    assert {len(cell.seeds) for cell in select(study, ["a/*", "b/*"])} == {5}
    assert {len(cell.seeds) for cell in select(study, ["c/*"])} == {3}
    named = {name for variant in study.variants.values() for name in variant.loss}
    if named <= set(LOSSES):
        check_study(study)
    else:
        with pytest.raises(UsageError, match="no loss is called"):
            check_study(study)
