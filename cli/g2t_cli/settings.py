"""From a command's options to the settings of its stage."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

#: What each stage knows at the top of its settings.
KEYS = {
    "teach": {"teacher", "split", "seed", "features", "model", "train"},
    "export": {"dtype", "hops", "shard_rows"},
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
    from g2t.recipe import part_of

    named = {key: value for key, value in options.items() if value is not None}
    content = read_config(config) if config else {}
    student = str(named.get("student", "landmark"))
    return layered(
        part_of(content, stage, student),
        from_environment(KEYS[stage]),
        parse_sets(sets or []),
        named,
    )
