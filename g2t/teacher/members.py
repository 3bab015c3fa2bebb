"""Several teachers of one split, whose soft labels are averaged; the least they must reach."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact, is_artifact
from g2t.errors import CheckFailed, InputError
from g2t.runtime import Progress
from g2t.teacher.train import plan_teacher, teach

#: Between the seeds of two members: seeds near each other stay free for other splits.
STRIDE = 1000


def member_values(
    graph_path: Path, values: Mapping[str, Any], count: int
) -> tuple[dict[str, Any], ...]:
    """Return the settings of each member: seeds s, s + 1000, …, and the split that s gives."""
    plan = plan_teacher(graph_path, values)
    seed, split = plan.settings.seed, plan.split.name
    return tuple({**values, "split": split, "seed": seed + STRIDE * i} for i in range(count))


def teach_members(
    graph_path: Path,
    out: Path,
    values: Mapping[str, Any],
    count: int,
    *,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[Artifact, ...]:
    """Train `count` teachers of one split as OUT/0, OUT/1, …; finished ones stay.

    Member 0 is the teacher that `teach` gives with the same values. Raises what `teach` raises, and
    InputError where OUT is no ordinary folder.
    """
    check_folder(out)
    members = member_values(graph_path, values, count)
    made = []
    for index, chosen in enumerate(members):
        if progress is not None:
            progress.note(f"teacher {index + 1} of {count}: seed {chosen['seed']}")
        where = out / str(index)
        made.append(teach(graph_path, where, chosen, device=device, force=force, progress=progress))
    return tuple(made)


def check_folder(out: Path) -> None:
    """Raise InputError where several teachers cannot stand below OUT."""
    if is_artifact(out) or (out.exists() and not out.is_dir()):
        raise InputError(
            f"{out} is no ordinary folder; several teachers stand below it", "choose another --out"
        )


def check_val(teachers: Sequence[Artifact], least: float) -> None:
    """Raise CheckFailed for the first teacher whose validation score is below `least`."""
    for teacher in teachers:
        val = teacher.record["summary"]["val"]
        if val < least:
            raise CheckFailed(
                f"{teacher.path} reaches {val:.4f} on the validation nodes, less than {least:g}",
                "it is written all the same; try other settings, or lower --min-val",
            )
