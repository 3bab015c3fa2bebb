"""From a command's options to the settings of its stage."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

#: What each stage knows at the top of its settings.
KEYS = {
    "teach": {
        "teacher",
        "split",
        "setting",
        "preset",
        "seed",
        "members",
        "member",
        "features",
        "model",
        "train",
    },
    "export": {
        "codes",
        "dtype",
        "hops",
        "logits_from",
        "noise",
        "precision",
        "project",
        "shard_rows",
        "signals",
        "topk",
    },
    "distill": {"student", "preset", "seed", "model", "train", "loss"},
}


def gather(
    stage: Literal["teach", "export", "distill"],
    config: str | None,
    sets: Sequence[str] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge file or recipe, environment, `--set` and named options, in rising precedence."""
    from g2t.config import from_environment, layered, parse_sets, read_config
    from g2t.recipe import is_recipe, is_study, part_of

    content = read_config(config) if config else {}
    given = layered(
        from_environment(KEYS[stage]),
        parse_sets(sets or []),
        {key: value for key, value in options.items() if value is not None},
    )
    if not (is_recipe(content) or is_study(content)):
        return layered(content, given)
    part = part_of(content, stage, given.get("student", "landmark"))
    # A recipe's student has a kind of its own, so the name has done its work.
    return layered(part, {key: value for key, value in given.items() if key != "student"})
