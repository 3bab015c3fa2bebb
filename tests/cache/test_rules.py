"""A manifest that contradicts itself is told so, whichever way; a sound one has no fault."""

from collections.abc import Callable
from typing import Any

import pytest

from g2t.cache.format import Manifest
from g2t.cache.rules import fault_of

MakeCache = Callable[..., Any]
Content = dict[str, Any]


def entry(content: Content, name: str) -> Content:
    return next(entry for entry in content["tensors"] if entry["name"] == name)


def without(content: Content, name: str) -> object:
    content["tensors"] = [e for e in content["tensors"] if e["name"] != name]
    content["shards"] = [s for s in content["shards"] if s["tensor"] != name]
    return content


def rename(content: Content, old: str, new: str) -> object:
    entry(content, old)["name"] = new
    for shard in content["shards"]:
        if shard["tensor"] == old:
            shard["tensor"] = new
    return content


def change(name: str, **values: Any) -> Callable[[Content], None]:
    return lambda content: entry(content, name).update(values)


def set_shard(index: int, **values: Any) -> Callable[[Content], None]:
    return lambda content: content["shards"][index].update(values)


def member(digest: str, *roles: str, name: str = "gcn") -> Content:
    return {"name": name, "digest": digest, "roles": roles}


#: The teacher of the cache that is made by hand, with all roles, and another one.
FIRST, OTHER = member("sha256:03", "layers", "logits"), member("sha256:04", "logits")


def teachers(*members: Content) -> Callable[[Content], None]:
    return lambda content: content.update(teachers=members)


FAULTS: dict[str, tuple[Callable[[Content], object], str]] = {
    "tensor twice": (lambda c: c["tensors"].append(c["tensors"][0]), "lists features twice"),
    "file twice": (
        lambda c: c["shards"][1].update(file=c["shards"][0]["file"]),
        "lists the file features-00000.safetensors twice",
    ),
    "the graph as a shard": (set_shard(0, file="graph.safetensors"), "the file graph.safetensors"),
    "shard of no tensor": (set_shard(0, tensor="more"), "a shard of more, which is no tensor"),
    "gap": (set_shard(1, start=25), "features has a gap or overlap at row 20"),
    "overlap": (set_shard(1, start=10), "features has a gap or overlap at row 20"),
    "shard missing": (lambda c: c["shards"].pop(2), "features covers 40 of 50 rows"),
    "tensor without shards": (
        lambda c: c.update(shards=[s for s in c["shards"] if s["tensor"] != "features"]),
        "features covers 0 of 50 rows",
    ),
    "other bounds": (
        lambda c: (set_shard(0, stop=15)(c), set_shard(1, start=15)(c)),
        "features-00000.safetensors does not hold 20 rows",
    ),
    "more rows per shard": (lambda c: c.update(shard_rows=30), "does not hold 30 rows"),
    "graph file elsewhere": (
        lambda c: c["graph_file"].update(file="g.safetensors"),
        "g.safetensors stands in the place of graph.safetensors",
    ),
    "one class": (lambda c: c.update(classes=["a"]), "1 classes do not make a multiclass task"),
    "two classes": (lambda c: c.update(classes=["a", "b"]), "2 classes do not make a multiclass"),
    "binary of five": (lambda c: c.update(task="binary"), "5 classes do not make a binary task"),
    "auc of five": (
        lambda c: c.update(metric="roc_auc"),
        "roc_auc is no score of a multiclass task",
    ),
    "no features": (lambda c: without(c, "features"), "it has no features"),
    "hop missing": (lambda c: without(c, "tokens-1"), r"hop tokens \[2\] have a gap"),
    "last hop missing": (lambda c: without(c, "tokens-2"), r"says 2 hops, and there are tokens of"),
    "more hops": (lambda c: c.update(hops=10**9), "says 1000000000 hops"),
    "hop 0 alone": (
        lambda c: rename(c, "tokens-2", "tokens-0"),
        r"hop tokens \[0, 1\] have a gap, or no projection",
    ),
    "narrow token": (change("tokens-1", width=3), "tokens-1 has 3 columns, not 12"),
    "layer too many": (
        lambda c: c["teacher"].update(layers=1),
        "holds teacher-h2 of a teacher of 1 layers",
    ),
    "layer 0": (lambda c: rename(c, "teacher-h1", "teacher-h0"), "holds teacher-h0 of a teacher"),
    "layer too many before its activation": (
        lambda c: rename(c, "teacher-h1", "teacher-p3"),
        "holds teacher-p3 of a teacher of 2 layers",
    ),
    "layer 0 before it": (lambda c: rename(c, "teacher-h1", "teacher-p0"), "holds teacher-p0 of a"),
    "int32 layer before it": (
        lambda c: (rename(c, "teacher-h1", "teacher-p1"), change("teacher-p1", dtype="int32")(c)),
        "teacher-p1 cannot be int32",
    ),
    "layers of two widths": (
        lambda c: rename(c, "teacher-h1", "teacher-p2"),
        "teacher-p2 has 8 columns, teacher-h2 6",
    ),
    "classes and columns": (
        lambda c: c.update(classes=["a", "b", "c"]),
        "teacher-logits has 5 columns for 3 classes",
    ),
    "int8 codes": (change("teacher-codes", dtype="int8"), "teacher-codes cannot be int8"),
    "codes of one layer": (change("teacher-codes", width=1), "1 columns for a teacher of 2 layers"),
    "int16 clusters": (change("clusters", dtype="int16"), "clusters cannot be int16"),
    "float clusters": (change("clusters", dtype="fp32"), "clusters cannot be fp32"),
    "wide clusters": (change("clusters", width=2), "has 2 columns, not one"),
    "int32 codes": (change("teacher-codes", dtype="int32"), "teacher-codes cannot be int32"),
    "int32 layer": (change("teacher-h1", dtype="int32"), "teacher-h1 cannot be int32"),
    "int16 logits": (change("teacher-logits", dtype="int16"), "teacher-logits cannot be int16"),
    "int8 top k": (
        change("teacher-logits", kind="topk", topk=2, dtype="int8"),
        "teacher-logits cannot be int8 and of kind topk",
    ),
    "top k of none": (change("teacher-logits", kind="topk"), "keeps None values"),
    "top k too many": (change("teacher-logits", kind="topk", topk=6), "keeps 6 values"),
    "dense top k": (change("teacher-logits", topk=2), "kind dense keeps 2 values"),
    "sparse layer": (change("teacher-h1", kind="csr"), "teacher-h1 cannot be of kind csr"),
    "top k of a layer": (change("teacher-h1", kind="topk", topk=1), "cannot be of kind topk"),
    "edges of features": (change("features", kind="edge"), "features cannot be of kind edge"),
    "sparse int8": (
        change("features", kind="csr", dtype="int8"),
        "features cannot be int8 and of kind csr",
    ),
    "wide scores": (change("teacher-edge-scores", width=2), "has 2 columns, not one"),
    "wide reliability": (change("teacher-reliability", width=2), "has 2 columns, not one"),
    "no teachers": (teachers(), "lists 0 teachers where there must be several"),
    "one of several": (teachers(FIRST), "lists 1 teachers where there must be several"),
    "teacher twice": (teachers(FIRST, OTHER, OTHER), "lists teacher sha256:04 twice"),
    "another first": (teachers(OTHER, FIRST), "is not the first of its teachers"),
    "another name": (
        teachers({**FIRST, "name": "gat"}, OTHER),
        "its teacher is not the first of its teachers",
    ),
    "layers of two": (
        teachers(FIRST, member("sha256:04", "layers", "logits")),
        "the first of its teachers gives the layers, every other one logits alone",
    ),
    "layers of none": (teachers(member("sha256:03", "logits"), OTHER), "gives the layers"),
    "an idle one": (teachers(FIRST, member("sha256:04")), "every other one logits alone"),
    "int8 reliability": (change("teacher-reliability", dtype="int8"), "cannot be int8"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_contradiction_is_named(make_cache: MakeCache, what: str) -> None:
    spoil, said = FAULTS[what]
    content = make_cache().open().manifest.content()
    assert fault_of(Manifest.model_validate(content)) is None
    spoil(content)
    fault = fault_of(Manifest.model_validate(content))
    assert fault is not None
    with pytest.raises(ValueError, match=said):
        raise ValueError(fault)


@pytest.mark.parametrize(
    "sound",
    [
        lambda c: without(c, "teacher-h1"),
        lambda c: [without(c, f"teacher-h{layer}") for layer in (1, 2)],
        lambda c: rename(c, "teacher-h1", "teacher-p1"),
        lambda c: (change("teacher-h1", width=6)(c), rename(c, "teacher-h1", "teacher-p2")),
        lambda c: without(c, "teacher-logits"),
        lambda c: [c.update(hops=0), *(without(c, f"tokens-{hop}") for hop in (1, 2))],
        lambda c: rename(c, "teacher-reliability", "teacher-hearsay"),
        lambda c: (change("features", dtype="int8")(c), change("tokens-2", dtype="bf16")(c)),
        lambda c: change("teacher-logits", kind="topk", topk=5, dtype="bf16")(c),
        lambda c: c["shards"].reverse(),
        teachers(FIRST, OTHER),
        teachers(member("sha256:03", "layers"), OTHER, member("sha256:05", "logits", name="sage")),
    ],
)
def test_what_may_be_left_out_or_added(make_cache: MakeCache, sound: Any) -> None:
    content = make_cache().open().manifest.content()
    sound(content)
    assert fault_of(Manifest.model_validate(content)) is None


def test_a_projection_comes_with_its_own_tokens(make_cache: MakeCache) -> None:
    content = make_cache(projected=True).open().manifest.content()
    assert fault_of(Manifest.model_validate(content)) is None
    bare = {**content, "projection_file": None}
    assert "no projection" in str(fault_of(Manifest.model_validate(bare)))
    change("tokens-0", width=5)(content)
    assert fault_of(Manifest.model_validate(content)) == "tokens-1 has 4 columns, not 5"
    without(content, "tokens-0")
    assert "have a gap" in str(fault_of(Manifest.model_validate(content)))
    for hop in (1, 2):
        without(content, f"tokens-{hop}")
    content["hops"] = 0
    assert "0 hops, and there are tokens of []" in str(fault_of(Manifest.model_validate(content)))
