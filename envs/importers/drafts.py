"""What importers make of records: scenarios that have neither id nor split yet, and how they get both.

Both follow from the content alone, so the same record gets the same ones in every file, on every machine, whatever stands
around it; and records that belong together cannot come apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...inference.errors import ConfigError
from ..scenarios import SPLITS, Scenario, Split


@dataclass(frozen=True)
class Draft:
    """A scenario without id and split.

    Attributes:
        user: As in `Scenario`, like all that follow but ``group``.
        group: What must not be in two splits: the listing that several bargains are about, the first question of dialogues.
    """

    user: tuple[str, ...]
    group: str
    system: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    persona: str | None = None
    goal: str | None = None
    hidden: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """12 hexadecimal digits of its content's SHA-256."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Shares:
    """Which part of the groups goes to the splits that nothing is learnt from.

    Attributes:
        validation: Between 0 and 1.
        test: Between 0 and 1.
    """

    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test <= 1):
            raise ConfigError(
                f"`validation` and `test` must be shares with a sum of at most 1, not {self.validation} and {self.test}"
            )

    def split(self, group: str) -> Split:
        """The split of a group, by its content's SHA-256 as a number between 0 and 1."""
        at = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
        return "test" if at < self.test else "validation" if at < self.test + self.validation else "train"


def scenarios_of(
    drafts: Sequence[tuple[Draft, Split | None]], name: str, shares: Shares
) -> tuple[list[Scenario], dict[str, int]]:
    """Gives drafts their ids and splits.

    Args:
        drafts: Each with the split that its source says, or None.
        name: What the ids begin with.
        shares: Of the groups whose source says nothing.

    Returns:
        The scenarios; and how many drafts were left out, by reason: the same twice, or in ``test`` or ``validation`` as well.
    """
    splits: dict[str, Split] = {}
    for draft, split in drafts:
        wanted = split or shares.split(draft.group)
        splits[draft.group] = max(splits.get(draft.group, wanted), wanted, key=SPLITS.index)
    found: dict[str, Scenario] = {}
    left_out = {"twice": 0, "in another split": 0}
    for draft, split in drafts:
        identity = f"{name}-{draft.digest()}"
        if split not in (None, splits[draft.group]):
            left_out["in another split"] += 1
        elif identity in found:
            left_out["twice"] += 1
        else:
            parts = {key: value for key, value in vars(draft).items() if key != "group"}
            found[identity] = Scenario(id=identity, split=splits[draft.group], **parts)
    return list(found.values()), {reason: count for reason, count in left_out.items() if count}
