"""Training a teacher: all nodes at once, the best epoch by validation, never a test label."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2t.artifact import Artifact
from g2t.checkpoint import Checkpoint, check_finite
from g2t.graph.bundle import Graph, read_graph
from g2t.graph.csr import is_bag_of_words, take_rows
from g2t.graph.splits import Split, complete_name, hide_test_labels, make_split, write_split
from g2t.metrics import score
from g2t.network import write_network
from g2t.runtime import Progress, Silent, choose_device, stop_on_signal
from g2t.stage import Stage
from g2t.task import task_loss
from g2t.teacher.forward import observed
from g2t.teacher.frame import FrameSettings
from g2t.teacher.settings import TeachSettings, teach_settings
from g2t.teacher.store import SPLIT, build, facts_of


def teach(
    graph_path: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Train a teacher on a graph artefact and write it to `out`.

    `values` are settings of `TeachSettings`. Raises UsageError, InputError, IntegrityError for
    wrong settings, missing and damaged input, TrainingError when the loss is not finite.
    """
    plan = plan_teacher(graph_path, values)
    where = choose_device(device)
    show = progress or Silent()
    with Stage(out, "teacher", plan.asked, plan.inputs, plan.settings.seed, force) as stage:
        if stage.finished:
            show.note(f"{out} is done already")
            return stage.finished
        return stage.commit(_train(plan, where, stage, show))


@dataclass(frozen=True)
class TeachPlan:
    """A training run before it starts: what is asked for, resolved against the graph.

    `asked` are the settings that decide the result, `facts` what `model.json` will say, and
    `graph` has lost the labels of all test nodes.
    """

    settings: TeachSettings[FrameSettings]
    graph: Graph
    split: Split
    facts: dict[str, Any]
    asked: dict[str, Any]
    inputs: dict[str, str]


def plan_teacher(graph_path: Path, values: Mapping[str, Any]) -> TeachPlan:
    """Open the graph, resolve settings and split, and hide the test labels."""
    settings = teach_settings(values)
    graph = read_graph(graph_path)
    name = complete_name(settings.split, settings.seed, graph)
    split = make_split(graph, name, settings.setting, settings.seed)
    scaling = settings.features
    if scaling == "auto":
        scaling = "row" if is_bag_of_words(take_rows(graph.features, split.nodes)) else "raw"
    # A checkpoint's timing changes nothing in the result, so it is not part of what is asked for.
    asked = settings.model_dump(mode="json", exclude={"train": {"checkpoint_seconds"}})
    asked |= {"split": name, "features": scaling}
    facts = facts_of(graph, asked)
    inputs = {"graph": facts["graph"]["fingerprint"], "split": split.digest}
    seen = hide_test_labels(graph, split)
    return TeachPlan(settings, seen, split, facts, asked, inputs)


def _train(
    plan: TeachPlan, device: torch.device, stage: Stage, progress: Progress
) -> dict[str, Any]:
    """Run the loop and write the best weights; returns the figures of the best epoch."""
    graph, split, facts, settings = plan.graph, plan.split, plan.facts, plan.settings
    torch.manual_seed(settings.seed)
    model = build(facts).to(device)
    features, structure = observed(graph, split, facts["features"]["scaling"], device)
    labels_N = graph.labels[split.nodes].to(device)
    train_N, val_N = (
        torch.isin(split.nodes, part).to(device) for part in (split.parts.train, split.parts.val)
    )
    options = settings.train
    optimizer = torch.optim.Adam(model.parameters(), options.lr, weight_decay=options.weight_decay)
    checkpoint = Checkpoint(stage.path, {"model": model}, optimizer, options.checkpoint_seconds)
    start, best = 0, {"epoch": -1, "val": -1.0, "val_loss": float("inf")}
    best_weights: dict[str, Tensor] = {}
    if (saved := checkpoint.load()) is not None:
        (numbers, best_weights) = saved
        start, best = numbers["epoch"] + 1, numbers["best"]
        stage.rewind(start)
        progress.note(f"going on after epoch {start - 1}")
    with stop_on_signal() as stop:
        for epoch in range(start, options.epochs):
            model.train()
            optimizer.zero_grad()
            logits_NC = model(features, structure).logits_NC
            loss = task_loss(graph.task, logits_NC[train_N], labels_N[train_N])
            check_finite(loss, epoch)
            loss.backward()
            optimizer.step()
            val, val_loss = _validate(model, features, structure, labels_N, val_N, graph)
            check_finite(torch.tensor(val_loss), epoch)
            values = {"loss": loss.item(), "val": val, "val_loss": val_loss}
            stage.log({"epoch": epoch, **values})
            progress.update("teach", epoch + 1, options.epochs, values)
            if (val, -val_loss) > (best["val"], -best["val_loss"]):
                best = {"epoch": epoch, "val": val, "val_loss": val_loss}
                # Clones: on the CPU a state_dict shares memory with the live weights.
                best_weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if epoch - best["epoch"] >= options.patience:
                break
            checkpoint.after_epoch(stop, {"epoch": epoch, "best": best}, best_weights)
    checkpoint.discard()
    model.load_state_dict(best_weights)
    described = model.describe()
    layers = None if described is None else described.model_dump(mode="json")
    write_network(stage.path, {**facts, "layers": layers}, model.cpu())
    write_split(split, stage.path / SPLIT)
    return {**best, "split": split.name, "split_digest": split.digest}


@torch.no_grad()
def _validate(
    model: torch.nn.Module,
    features: Any,
    structure: Any,
    labels_N: Tensor,
    val_N: Tensor,
    graph: Graph,
) -> tuple[float, float]:
    """Return the metric and the cross-entropy on the validation nodes."""
    model.eval()
    logits_NC = model(features, structure).logits_NC[val_N]
    loss = task_loss(graph.task, logits_NC, labels_N[val_N])
    return score(graph.metric, logits_NC, labels_N[val_N]), loss.item()
