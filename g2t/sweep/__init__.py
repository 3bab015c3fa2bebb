"""Sweeps: one cache, many students, as commands that a shell or a job array runs.

`spec` reads the file, `trial` says which students it asks for and their commands, `search` asks
optuna for more, `standing` tells what is finished and ranks it by validation.
"""

from g2t.sweep.search import search
from g2t.sweep.spec import Spec, read_spec
from g2t.sweep.standing import Finding, inspect, rank
from g2t.sweep.trial import Trial, trials_of

__all__ = ["Finding", "Spec", "Trial", "inspect", "rank", "read_spec", "search", "trials_of"]
