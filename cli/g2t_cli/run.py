"""`g2t run`."""

from g2t_cli import options as o
from g2t_cli.options import running as own
from g2t_cli.output import command, emit_json, emit_toml, out_or_usage, progress


@command
def run(
    recipe: own.Recipe,
    out: o.Out = None,
    seeds: own.Seeds = None,
    sets: own.Sets = None,
    graph: own.Graph = None,
    teachers_only: own.TeachersOnly = False,
    only: own.Only = None,
    card: own.Card = False,
    root: o.Root = None,
    device: o.Device = "auto",
    print_config: o.PrintConfig = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    force: o.Force = False,
) -> None:
    """Walk a whole recipe over seeds: import, teach, export, distill, eval.

    Finished parts are kept, so a second call goes on where the first stopped. The table compares
    the teacher, every student, and students without a teacher; mean ± std over the seeds.

    A study walks many recipes, settings, students and losses, cell by cell, and writes
    OUT/STUDY.md.

    Examples:

      g2t run recipe:demo --out runs/demo

      g2t run recipe:cora --seeds 0:5 --out runs/cora-seeds --json

      g2t run recipe:cora --teachers-only --seeds 0:5 --out runs/cora-teachers

      g2t run recipe:cora --set split=cpf --seeds 0:5 --out runs/cora-cpf

      g2t run recipe:cora --set split=cpf --set setting=production --out runs/cora-production

      g2t run recipe:study-losses --only 'a/cora-cpf/*' --seeds 0:2 --out runs/study
    """
    from g2t.config import from_environment, layered, parse_sets, read_config
    from g2t.errors import UsageError
    from g2t.pipeline import check_recipe
    from g2t.pipeline import run as walk
    from g2t.recipe import is_study, read_recipe, with_students

    content, numbers = read_config(recipe), None if seeds is None else parse_seeds(seeds)
    if is_study(content):
        from g2t_cli.study import Request, walk_study

        if graph is not None or teachers_only or card or force:
            raise UsageError(
                "--graph, --teachers-only, --card and --force do not go with a study",
                "use --only; what is to be made again, remove",
            )
        given = Request(recipe, sets or [], only or [], numbers, out)
        walk_study(given, content, root, device, print_config, dry_run, as_json, quiet)
        return
    if only:
        raise UsageError("--only is for studies", f"{recipe} is one recipe, without cells")
    tables = {"source", "split", "setting", "import", "teach", "export", "students"}
    content = layered(with_students(content), from_environment(tables), parse_sets(sets or []))
    if teachers_only:
        content |= {"students": {}}
    if card and not content["students"]:
        raise UsageError("a card is of a student, and there is none to walk", "leave --card out")
    if graph is not None:
        content |= {"source": f"folder:{graph}", "import": {}}
    parsed = read_recipe(content)
    numbers = numbers or [0]
    if print_config:
        emit_toml(check_recipe(parsed))
        return
    target = out_or_usage(out)
    if dry_run:
        from g2t_cli.plan import run_plan

        emit_json(run_plan(parsed, numbers, target))
        return
    with progress(quiet) as show:
        result = walk(
            parsed,
            numbers,
            target,
            root=root,
            device=device,
            force=force,
            progress=show,
            card=card,
        )
    if as_json:
        emit_json(result)
        return
    from g2t_cli.tables import show_run

    show_run(result)
    if card:
        from g2t_cli.cards import show_cards

        show_cards([row for row in result["rows"] if "card" in row])
    print(target)


def parse_seeds(text: str) -> list[int]:
    """Read `0:5` or `0,2,4`; raises UsageError for anything else."""
    from g2t.errors import UsageError

    first, colon, last = text.partition(":")
    numbers = [first, last] if colon else text.split(",")
    if not all(number.isdigit() for number in numbers):
        raise UsageError(f"--seeds {text!r} is neither A:B nor A,B,C", "e.g. --seeds 0:5")
    chosen = list(range(int(first), int(last))) if colon else [int(number) for number in numbers]
    if not chosen or len(set(chosen)) < len(chosen):
        raise UsageError(f"--seeds {text!r} names no seed, or one twice", "e.g. --seeds 0:5")
    return chosen
