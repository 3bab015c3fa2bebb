"""Settings: what wins over what, and what is said when one is wrong."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2t.config import (
    Settings,
    from_environment,
    layered,
    look_up,
    nested,
    parse_sets,
    parse_value,
    read_config,
    recipe_names,
    recipe_text,
    validate,
)
from g2t.distill.settings import distill_settings
from g2t.errors import InputError, UsageError
from g2t.recipe import is_study, part_of, read_recipe
from g2t.student import STUDENTS
from g2t.teacher.settings import teach_settings
from g2t_cli.settings import gather


class Inner(Settings):
    epochs: int = 10
    rate: float = 0.1


class Outer(Settings):
    name: str = "a"
    train: Inner = Inner()


def test_each_layer_wins_over_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("seed = 1\n[train]\nepochs = 1\nlr = 0.1\npatience = 1\nweight_decay = 0.1\n")
    for name, text in {"SEED": "2", "TRAIN__EPOCHS": "2", "TRAIN__LR": "0.2"}.items():
        monkeypatch.setenv(f"G2T_{name}", text)
    monkeypatch.setenv("G2T_TRAIN__PATIENCE", "2")
    sets = ["seed=3", "train.epochs=3", "train.lr=0.3"]
    settings = teach_settings(gather("teach", str(file), sets, {"seed": 4, "teacher": None}))
    assert settings.seed == 4  # a named option
    assert (settings.train.epochs, settings.train.lr) == (3, 0.3)  # --set
    assert settings.train.patience == 2  # the environment
    assert settings.train.weight_decay == 0.1  # the file
    assert settings.model.layers == 2  # the default
    assert settings.teacher == "gcn"


def test_the_environment_gives_only_keys_that_the_stage_knows() -> None:
    environment = {
        "G2T_TRAIN__EPOCHS": "5",
        "G2T_NAME": "cpf:0",
        "G2T_ROOT": "data",
        "G2T_HOME": "home",
        "G2T_DEBUG": "1",
        "G2T_OTHER__KEY": "1",
        "TRAIN__EPOCHS": "6",
        "PATH": "bin",
    }
    known = {"name", "train", "root", "home", "debug"}
    read = from_environment(known, environment)
    assert read == {"train": {"epochs": 5}, "name": "cpf:0"}


def test_merging_keeps_what_the_later_source_does_not_name() -> None:
    first = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert layered(first, {"a": {"c": {"d": 4}}}) == {"a": {"b": 1, "c": {"d": 4}}, "e": 3}
    assert layered(first, {"a": 5}) == {"a": 5, "e": 3}
    assert layered({"a": 5}, {"a": {"b": 1}}) == {"a": {"b": 1}}
    assert first == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert layered() == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"5"', "5"),
        ("cpf:0", "cpf:0"),
        ("random:60/20/20:1", "random:60/20/20:1"),
        ("", ""),
        ("5\nx = 1", 5),
    ],
)
def test_values_are_toml_and_bare_words_are_strings(text: str, value: Any) -> None:
    assert parse_value(text) == value


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    parse_value(text)


def test_sets_are_keys_and_values() -> None:
    assert parse_sets(["a.b=1", "a.c = x=y", "a.b=2"]) == {"a": {"b": 2, "c": "x=y"}}
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    for wrong in ("epochs", "=5", "a..b=1", ".a=1", "a.=1"):
        with pytest.raises(UsageError, match="is not KEY=VALUE"):
            parse_sets([wrong])


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"nam": 1}, "unknown setting nam", "did you mean name?"),
        ({"train": {"epocs": 1}}, "unknown setting train.epocs", "did you mean train.epochs?"),
        ({"zzz": 1}, "unknown setting zzz", "choose from: name, train"),
        ({"train": {"epochs": "many"}}, "setting train.epochs: .*given: 'many'", ""),
        ({"train": 3}, "setting train: .*given: 3", ""),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        validate(Outer, values)
    assert caught.value.hint == hint
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"train": {"epohs": 5}}, "unknown setting train.epohs", "did you mean train.epochs?"),
        ({"model": {"hiden": 5}}, "unknown setting model.hiden", "did you mean model.hidden?"),
        ({"teacher": "sgae"}, "no teacher is called 'sgae'", "did you mean sage?"),
        (
            {"teacher": "foo"},
            "no teacher is called 'foo'",
            "choose from: appnp, gat, gat-sep, gatv2, gcn, gcn2, gin, pna, sage, sgc",
        ),
        ({"model": {"heads": 2}}, "unknown setting model.heads", ""),  # a setting of gat alone
        ({"train": {"lr": -1}}, "setting train.lr: .*greater than 0", ""),
        ({"teacher": "gat", "model": {"hidden": 30}}, "model.hidden 30 is no multiple", ""),
    ],
)
def test_teacher_settings_name_the_wrong_key(values: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        teach_settings(values)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"student": "landmrk"}, "no student is called", "did you mean landmark?"),
        ({"size": "bsae"}, "the student has no size 'bsae'", "did you mean base?"),
        ({"size": 3}, "the student has no size 3", "choose from: base, small, tiny"),
        ({"preset": "sotf"}, "no preset is called 'sotf'", "did you mean soft?"),
        ({"loss": {"sotf": {"weight": 1}}}, "no loss is called 'sotf'", "did you mean soft?"),
        ({"loss": {"soft": {"wieght": 1}}}, "unknown setting loss.soft.wieght", "weight?"),
        ({"loss": {"soft": {"weight": 0}}}, "every loss has weight 0", "choose a preset"),
        ({"loss": 3}, "setting loss", "e.g."),
    ],
)
def test_student_settings_name_the_wrong_key(values: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        distill_settings(values)
    assert hint in caught.value.hint


@pytest.mark.parametrize("student", STUDENTS)
def test_a_size_gives_defaults_and_what_is_named_wins(student: str) -> None:
    def model(**values: Any) -> dict[str, Any]:
        settings = distill_settings({"student": student, **values})
        found: dict[str, Any] = settings.model.model_dump()
        return found

    assert model(size="small") == model()
    widths = [model(size=size)["hidden"] for size in ("tiny", "small", "base")]
    assert widths == ([128, 256, 512] if student == "mlp" else [32, 64, 128])
    chosen = model(size="base", model={"hidden": 80})
    assert chosen == {**model(size="base"), "hidden": 80}
    if student != "mlp":
        assert [model(size=size)["landmarks"] for size in ("tiny", "base")] == [16, 64]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().name = "b"  # type: ignore[misc]


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("seed = 1\nepochs = = 3\n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"broken.toml is not valid TOML: .*line 2"):
        read_config(str(broken))
    with pytest.raises(InputError, match=r"binary.toml is not valid TOML"):
        read_config(str(binary))
    with pytest.raises(InputError, match=r"cannot read the settings file .*none.toml: No such"):
        read_config(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="Is a directory"):
        read_config(str(tmp_path))


def test_an_unknown_name_of_a_table_names_the_nearest() -> None:
    table = {"path": "pathlib:Path"}
    assert look_up(table, "path", "thing") is Path
    with pytest.raises(UsageError, match="no thing is called 'pat'") as caught:
        look_up(table, "pat", "thing")
    assert caught.value.hint == "did you mean path?"


def test_every_recipe_reads_and_every_stage_takes_its_part() -> None:
    assert {"demo", "cora", "citeseer", "photo-cpf", "computers-cpf"} <= set(recipe_names())
    for name in recipe_names():
        content = read_config(f"recipe:{name}")
        if is_study(content):
            continue  # its cells are checked with it
        recipe = read_recipe(content)
        assert teach_settings(part_of(content, "teach")).split == recipe.split
        for student in recipe.students:
            distill_settings(part_of(content, "distill", student))


def test_an_unknown_recipe_or_student_of_it_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no recipe is called 'corra'") as caught:
        recipe_text("corra")
    assert caught.value.hint == "did you mean cora?"
    with pytest.raises(UsageError, match="no recipe is called"):
        read_config("recipe:../cora")
    with pytest.raises(UsageError, match="the recipe has no student 'hopp'") as caught:
        part_of({"source": "a:b"}, "distill", "hopp")
    assert caught.value.hint == "did you mean hop?"
    with pytest.raises(UsageError, match="unknown setting studnets") as caught:
        read_recipe({"source": "a:b", "studnets": {}})
    assert caught.value.hint == "did you mean students?"
