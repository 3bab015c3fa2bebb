"""What tests share: real data where it is, and imports with their notes."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Workers share the cores, and sums of several threads depend on how busy those are. Processes that
# tests start inherit it; torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from g2t.graph.bundle import Graph, read_graph
from g2t.graph.importing import import_graph
from g2t.runtime import Silent

# The first example pays for imports and threads, so a deadline would be a matter of luck.
hypothesis.settings.register_profile("g2t", deadline=None)
hypothesis.settings.load_profile("g2t")

#: Import a source (settings, root) and read it back: the graph, and what was noted.
Bring = Callable[..., tuple[Graph, list[str]]]


def pytest_configure(config: pytest.Config) -> None:
    # Raised inside `import torch_geometric`, by its own use of torch.
    for notice in ("`torch.jit.script` is deprecated", "`torch.jit.script_method` is deprecated"):
        config.addinivalue_line("filterwarnings", f"ignore:{notice}:DeprecationWarning")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what g2t remembers between runs, such as verified digests, out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("G2T_HOME", str(tmp_path_factory.mktemp("g2t-home")))
        yield


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with real data."""
    if not os.environ.get("G2T_ROOT"):
        pytest.skip("G2T_ROOT is not set: no real data")
    return Path(os.environ["G2T_ROOT"])


class Notes(Silent):
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Import into a fresh folder and read the artefact back."""
    count = iter(range(1000))

    def bring(
        source: str, values: Mapping[str, Any] | None = None, root: Path | None = None
    ) -> tuple[Graph, list[str]]:
        notes = Notes()
        out = tmp_path / f"graph-{next(count)}"
        artifact = import_graph(source, out, values or {}, root, notes, force=False)
        return read_graph(artifact.path), notes.texts

    return bring
