"""`g2t teach`."""

from g2t_cli import options as o
from g2t_cli.options import teaching as own
from g2t_cli.output import (
    command,
    emit_artifact,
    emit_artifacts,
    emit_json,
    emit_toml,
    out_or_usage,
    progress,
)
from g2t_cli.settings import gather


@command
def teach(
    graph: o.GraphPath,
    out: o.Out = None,
    teacher: own.Kind = None,
    split: own.Split = None,
    setting: own.Setting = None,
    preset: own.Preset = None,
    seed: o.Seed = None,
    seeds: own.Seeds = None,
    min_val: own.MinVal = None,
    config: o.Config = None,
    sets: o.Sets = None,
    device: o.Device = "auto",
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Train a GNN teacher on a graph.

    The best epoch by validation is kept; test labels never reach the training code. A teacher
    that does not beat an MLP without edges on the validation nodes is warned of.

    Examples:

      g2t teach runs/cora/graph --teacher gcn --split public --out runs/cora/teacher

      g2t teach runs/cora/graph --config recipe:cora --seed 1 --out runs/cora/teacher-1

      g2t teach runs/my/graph --teacher sage --set model.layers=3 --out runs/my/teacher

      g2t teach runs/cora/graph --split cpf:0 --setting production --out runs/cora/teacher-cpf

      g2t teach runs/my/graph --seeds 3 --min-val 0.7 --out runs/my/teachers
    """
    from g2t.ranks import together
    from g2t.teacher.members import check_val, members_of, teach_members
    from g2t.teacher.settings import teach_settings

    named = {
        "teacher": teacher,
        "split": split,
        "setting": setting,
        "preset": preset,
        "seed": seed,
        "members": seeds,
    }
    values = gather("teach", config, sets, named)
    if print_config:
        emit_toml(teach_settings(values).model_dump(mode="json"))
        return
    target = out_or_usage(out)
    members = members_of(target, [values])
    if dry_run:
        from g2t.teacher.train import plan_teacher
        from g2t_cli.plan import teacher_plan

        plans = [teacher_plan(plan_teacher(graph, m.values), m.out, force) for m in members]
        emit_json(plans if len(plans) > 1 else plans[0])
        return
    with together(device) as ranks, progress(quiet or not ranks.first) as show:
        made = teach_members(
            graph, target, [values], device=device, force=force, progress=show, ranks=ranks
        )
    if not ranks.first:
        return
    if len(made) == 1:
        emit_artifact(made[0], as_json)
    else:
        emit_artifacts(made, as_json)
    if min_val is not None:
        check_val(made, min_val)
