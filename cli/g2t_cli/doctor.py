"""`g2t doctor`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2t_cli import options as o
from g2t_cli.output import command, emit_json

if TYPE_CHECKING:
    from g2t.doctor import Finding

SCHEMA = "g2t.doctor/1"


@command
def doctor(
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Where runs will be written (default: here).",
            rich_help_panel=o.INPUTS,
        ),
    ] = Path(),
    device: o.Device = "auto",
    as_json: o.Json = False,
) -> None:
    """Look whether g2t can work here, and walk a whole pipeline on a tiny graph.

    Versions, devices, threads, extras, folders and their speed. Leaves with 6 if something failed
    that runs need; extras that are absent do not count. Nothing stays behind.

    Examples:

      g2t doctor

      g2t doctor --folder /scratch/runs --json | jq .ok
    """
    from dataclasses import asdict

    from g2t.doctor import examine
    from g2t.errors import CheckFailed

    findings = []
    table = sys.stdout.isatty() and not as_json
    if table:
        print("the self-test takes about ten seconds", file=sys.stderr)
    for found in examine(folder, device):
        findings.append(found)
        if not table and not as_json:
            hint = f"  ({found.hint})" if found.hint else ""
            print(f"{found.state:8} {found.group:10} {found.name:24} {found.value}{hint}")
    failed = [found for found in findings if found.state == "failed"]
    if as_json:
        rows = [asdict(found) for found in findings]
        emit_json({"schema": SCHEMA, "ok": not failed, "findings": rows})
    if table:
        _show(findings)
    if failed:
        first = failed[0]
        raise CheckFailed(f"{first.group}: {first.name}: {first.value}", first.hint)


def _show(findings: Sequence["Finding"]) -> None:
    from g2t_cli.tables import new_table, show

    table = new_table("g2t doctor", "state", "group", "what", "value", "what to do")
    for found in findings:
        table.add_row(found.state, found.group, found.name, found.value, found.hint)
    for column in table.columns:
        column.justify = "left"
    show(table)
