"""`g2t cache import`."""

from g2t_cli import options as o
from g2t_cli.options import outside as own
from g2t_cli.output import command, emit_artifact, emit_json, out_or_usage, progress


@command
def import_cache(
    graph: o.GraphOption,
    logits: own.Logits,
    split: own.Split,
    layer: own.Layers = None,
    ids: own.Ids = None,
    ids_column: own.IdsColumn = None,
    teacher_name: own.TeacherName = None,
    scaling: own.Scaling = None,
    out: o.Out = None,
    dtype: own.Dtype = None,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Make a cache of a teacher that was trained elsewhere, from its answers.

    Rows are matched to nodes by id. Features, edges and labels come from the graph; test labels
    stay there.

    Examples:

      g2t cache import --graph G --split public --logits logits.npy --layer h1.npy --out cache

      g2t cache import --graph G --split cpf:0 --logits t.parquet --ids-column id --out cache
    """
    from g2t.cache.outside import OutsideFiles, OutsideSettings, plan_import
    from g2t.cache.outside import import_cache as run
    from g2t.config import validate

    named = {
        "split": split,
        "teacher_name": teacher_name,
        "scaling": scaling,
        "dtype": dtype,
        "ids_column": ids_column,
    }
    given = {key: value for key, value in named.items() if value is not None}
    settings = validate(OutsideSettings, given)
    files = OutsideFiles(graph, logits, tuple(layer or ()), ids)
    target = out_or_usage(out)
    if dry_run:
        from g2t.stage import Stage
        from g2t_cli.plan import stage_plan

        plan = plan_import(files, settings)
        widths = {name: answers.rows.width for name, answers in plan.answers.items()}
        asked = settings.model_dump(mode="json")
        stage = Stage(target, "cache", asked, plan.inputs, 0, force)
        content = {"rows": len(plan.split.nodes), "widths": widths}
        emit_json(stage_plan(stage, {"settings": asked, "inputs": plan.inputs, **content}))
        return
    with progress(quiet) as show:
        made = run(files, target, settings, force=force, progress=show)
    emit_artifact(made, as_json)
