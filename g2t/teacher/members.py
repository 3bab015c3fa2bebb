"""Several teachers of one split, whose soft labels are averaged; the least they must reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2t.artifact import Artifact, is_artifact
from g2t.errors import CheckFailed, InputError
from g2t.ranks import ALONE, Ranks
from g2t.runtime import Progress
from g2t.teacher.settings import teach_settings
from g2t.teacher.train import teach


@dataclass(frozen=True)
class Member:
    """One teacher: where it is to stand, and its settings."""

    out: Path
    values: Mapping[str, Any]


def members_of(out: Path, kinds: Sequence[Mapping[str, Any]]) -> tuple[Member, ...]:
    """Return the teachers that settings ask for: OUT itself, or OUT/0, OUT/1, … of several.

    `kinds` are settings of one kind of teacher each, and every kind has members of its own. Raises
    InputError where several cannot stand below OUT.
    """
    wanted = [
        {**values, "member": member}
        for values in kinds
        for member in range(teach_settings(values).members)
    ]
    if len(wanted) == 1:
        return (Member(out, kinds[0]),)
    if is_artifact(out) or (out.exists() and not out.is_dir()):
        raise InputError(
            f"{out} is no ordinary folder; several teachers stand below it", "choose another --out"
        )
    return tuple(Member(out / str(place), values) for place, values in enumerate(wanted))


def teach_members(
    graph_path: Path,
    out: Path,
    kinds: Sequence[Mapping[str, Any]],
    *,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Artifact, ...]:
    """Train every teacher that the settings of some kinds ask for; finished ones stay.

    Member 0 of a kind has the weights of a teacher that is trained alone. Raises what `teach` and
    `members_of` raise.
    """
    members, made = members_of(out, kinds), []
    for index, member in enumerate(members, 1):
        if progress is not None and len(members) > 1:
            progress.note(f"teacher {index} of {len(members)}")
        made.append(
            teach(
                graph_path,
                member.out,
                member.values,
                device=device,
                force=force,
                progress=progress,
                ranks=ranks,
            )
        )
    return tuple(made)


def check_val(teachers: Sequence[Artifact], least: float) -> None:
    """Raise CheckFailed for the first teacher whose validation score is below `least`."""
    for teacher in teachers:
        val = teacher.record["summary"]["val"]
        if val < least:
            raise CheckFailed(
                f"{teacher.path} reaches {val:.4f} on the validation nodes, less than {least:g}",
                "it is written all the same; try other settings, or lower --min-val",
            )
