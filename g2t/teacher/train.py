"""Training a teacher: the best epoch by validation, never a test label."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from g2t.artifact import SCRATCH, Artifact
from g2t.checkpoint import save_state
from g2t.errors import IntegrityError, UsageError
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.splits import Split, complete_name, hide_test_labels, make_split, write_split
from g2t.network import write_network
from g2t.ranks import ALONE, Ranks
from g2t.runtime import Progress, Silent, check_device, choose_device, leaving_on_signal
from g2t.stage import Stage
from g2t.teacher.baseline import compare, warning
from g2t.teacher.batches import make_batches
from g2t.teacher.descent import class_weights
from g2t.teacher.fit import Fit, Fitted
from g2t.teacher.frame import GNN, FrameSettings
from g2t.teacher.settings import TeachSettings, teach_settings
from g2t.teacher.store import SPLIT, build, facts_of, told_by
from g2t.tensors import load_facts, load_tensors

#: What `features=auto` tries; of equals the first one stays.
SCALINGS = ("raw", "row")

#: Settings that change nothing in the result, so that they are not part of what is asked for.
UNASKED: dict[str, Any] = {"preset": True, "members": True, "train": {"checkpoint_seconds"}}

#: A finished run of several, in the scratch folder.
BEST = "best.safetensors"


@leaving_on_signal()
def teach(
    graph_path: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Artifact:
    """Train a teacher on a graph artefact and write it to `out`.

    `values` are settings of `TeachSettings`. Several ranks that call this at once, with
    `train.batch`, learn together what one would learn. Raises UsageError, InputError,
    IntegrityError for wrong settings, missing and damaged input, MissingExtra where a setting needs
    what is not here, TrainingError when the loss is not finite, Stopped after a signal or where
    another rank is gone.
    """
    plan = plan_teacher(graph_path, values)
    where = choose_device(device, ranks)
    check_shared(plan, ranks)
    check_device(plan.settings.train.precision, plan.settings.train.compile, where)
    show, asked = progress or Silent(), (plan.asked, plan.inputs, plan.settings.seed)
    with Stage(out, "teacher", *asked, force, ranks=ranks) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            made = stage.finished
        else:
            made = stage.commit(_train(plan, where, stage, show))
    if not made.record["summary"]["beats_baseline"]:
        show.note(warning(made.record["summary"]))
    return made


@dataclass(frozen=True)
class TeachPlan:
    """A training run before it starts: what is asked for, resolved against the graph.

    `asked` are the settings that decide the result, `facts` what `model.json` will say (but for
    the scaling that `auto` chooses), and `graph` has lost the labels of all test nodes.
    """

    settings: TeachSettings[FrameSettings]
    graph: Graph
    split: Split
    facts: dict[str, Any]
    asked: dict[str, Any]
    inputs: dict[str, str]

    @property
    def scalings(self) -> tuple[str, ...]:
        """The feature scalings to be tried."""
        return SCALINGS if self.settings.features == "auto" else (self.settings.features,)

    def network(self, scaling: str) -> tuple[GNN, dict[str, Any]]:
        """Return a fresh network, the same for every scaling, and what `model.json` says of it."""
        torch.manual_seed(self.settings.initial_seed)
        features = {**self.facts["features"], "scaling": scaling}
        return build(self.facts), {**self.facts, "features": features}


def plan_teacher(graph_path: Path, values: Mapping[str, Any]) -> TeachPlan:
    """Open the graph, resolve settings and split, and hide the test labels."""
    settings = teach_settings(values)
    graph = read_graph(graph_path)
    name = complete_name(settings.split, settings.seed, graph)
    split = make_split(graph, name, settings.setting, settings.seed)
    asked = settings.model_dump(mode="json", exclude=UNASKED)
    asked |= {"split": name}
    facts = facts_of(graph, asked)
    inputs = {"graph": facts["graph"]["fingerprint"], "split": split.digest}
    seen = hide_test_labels(graph, split)
    return TeachPlan(settings, seen, split, facts, asked, inputs)


def _train(
    plan: TeachPlan, device: torch.device, stage: Stage, progress: Progress
) -> dict[str, Any]:
    """Train with every scaling asked for and write the best; returns the figures of the run."""
    tried: dict[str, Fitted] = {}
    for scaling in plan.scalings:
        before = sum(fitted.epochs for fitted in tried.values())
        tried[scaling] = _fit(plan, scaling, before, device, stage, progress)
    chosen = plan.scalings[0]
    for scaling, fitted in tried.items():
        if fitted.beats(tried[chosen]):
            chosen = scaling
    model, facts = plan.network(chosen)
    model.load_state_dict(tried[chosen].weights)
    if stage.ranks.first:
        write_network(stage.path, {**facts, **told_by(model)}, model)
        write_split(plan.split, stage.path / SPLIT)
    best = tried[chosen].best
    summary = {**best, "split": plan.split.name, "split_digest": plan.split.digest}
    summary |= compare(
        plan.graph, plan.split, chosen, best["val"], plan.settings.initial_seed, device
    )
    if len(tried) > 1:
        summary["features"] = chosen
        summary["tried"] = {scaling: fitted.best for scaling, fitted in tried.items()}
    return summary


def _fit(
    plan: TeachPlan,
    scaling: str,
    before: int,
    device: torch.device,
    stage: Stage,
    progress: Progress,
) -> Fitted:
    """Train with one scaling, or return what an earlier run of the stage has found with it."""
    folder = stage.path / SCRATCH / scaling
    if stage.ranks.from_first(lambda: _is_there(folder / BEST)):
        return Fitted(weights=load_tensors(folder / BEST), **load_facts(folder / BEST))
    options = plan.settings.train
    model, _ = plan.network(scaling)
    model = model.to(device)
    seed = plan.settings.initial_seed
    batches = make_batches(
        plan.graph, plan.split, scaling, options, model.reach, seed, device, stage.ranks
    )
    model.observe(batches.structure)
    labels = plan.graph.labels[plan.split.parts.train]
    weight_C = class_weights(labels, len(plan.graph.classes), options.class_weights)
    several = len(plan.scalings) > 1
    task = f"teach {scaling}" if several else "teach"
    fitted = Fit(
        model=model,
        batches=batches,
        options=options,
        weight_C=None if weight_C is None else weight_C.to(device),
        task=plan.graph.task,
        metric=plan.graph.metric,
        stage=stage,
        folder=folder,
        before=before,
        tag={"features": scaling} if several else {},
        tell=lambda epoch, figures: progress.update(task, epoch + 1, options.epochs, figures),
        note=progress.note,
    ).run()
    if stage.ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
        save_state(folder / BEST, fitted.weights, {"best": fitted.best, "epochs": fitted.epochs})
    return fitted


def _is_there(path: Path) -> bool:
    """Tell whether a file with tensors and facts is there and whole."""
    try:
        load_tensors(path)
        load_facts(path)
    except IntegrityError:
        return False
    return True


def check_shared(plan: TeachPlan, ranks: Ranks) -> None:
    """Raise UsageError where several ranks would not get what one gets."""
    if ranks.alone:
        return
    options, model = plan.settings.train, plan.network(plan.scalings[0])[0]
    reasons = {
        "train.batch": (options.batch is None, "is not set: all nodes at once are for one rank"),
        "train.sampler=clusters": (options.sampler == "clusters", "gives steps of one piece"),
        "model.norm=batch": (
            any(isinstance(module, nn.BatchNorm1d) for module in model.modules()),
            "takes means over rows that ranks share out",
        ),
        "model.attention_dropout": (
            getattr(plan.settings.model, "attention_dropout", 0) > 0,
            "draws for every edge, and ranks share some edges",
        ),
    }
    for name, (is_so, reason) in reasons.items():
        if is_so:
            raise UsageError(
                f"{name} {reason}; {ranks.count} ranks would not learn what one learns",
                "change it, or train with one rank: without torchrun or srun",
            )
