"""Other people's data as scenarios: one file for each format, and how all of them get ids and disjoint splits."""

from .drafts import Draft, Shares
from .importing import IMPORTERS, DataOptions, counts, import_scenarios

__all__ = ["IMPORTERS", "DataOptions", "Draft", "Shares", "counts", "import_scenarios"]
