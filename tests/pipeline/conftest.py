"""What tests of the production setting share: one walk."""

from pathlib import Path

import pytest

from g2t.export import ExportSettings
from tests.pipeline.held import made, store, walk


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production")
    store(made(folder), folder / "graph")
    return walk(folder, "random:20/20/60:0", ExportSettings(dtype="fp32"))
