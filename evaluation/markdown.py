"""The tables of a report in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .judge_health import JudgeHealth
from .leaderboard import Comparison, Row
from .length_control import Controlled
from .statistics import WinRate


def markdown(
    headed: str, boards: Mapping[str, Sequence[Row]], found: Sequence[Comparison], health: JudgeHealth, policy: str
) -> str:
    """The headline and the tables."""
    lines = [cell(headed)]
    for base, rows in boards.items():
        lines += ["", f"# Win rate against {cell(base)}, judged by {cell(rows[0].judge)}", ""]
        lines += ["| contestant | win rate (95% interval) | length-controlled (95%) | wins | ties | losses | failed |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in rows:
            rate = "none" if row.rate is None else _interval(row.rate)
            controlled = "" if row.controlled is None else _interval(row.controlled)
            counts = f"{row.wins} | {row.ties} | {row.losses} | {row.failures}"
            lines.append(f"| {cell(row.contestant)} | {rate} | {controlled} | {counts} |")
    if found:
        lines += [
            "",
            f"| {policy} against | difference (95% interval) | p, corrected | prompts needed |",
            "|---|---|---|---|",
        ]
        for one in found:
            d = one.found
            lines.append(
                f"| {cell(one.other)} | {d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f}) | {one.corrected:.3g} | "
                f"{'none' if one.prompts is None else format(one.prompts, ',')} |"
            )
    lines += ["", f"# The judge {cell(health.name)}", "", *(f"* {cell(line)}" for line in health.lines())]
    return "\n".join([*lines, ""])


def _interval(found: WinRate | Controlled) -> str:
    return f"{found.rate:.3f} ({found.low:.3f} to {found.high:.3f})"


def cell(text: str) -> str:
    """A text as it may stand in a cell of a table or in a line: none of it is markup, and none reaches a terminal's controls."""
    plain = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
