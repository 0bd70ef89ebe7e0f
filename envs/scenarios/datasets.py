"""Two public datasets as scenarios: CIMA (Stasaski, Kao and Hearst 2020) and CraigslistBargain (He, Chen, Balakrishnan and Liang 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_json
from .drafts import Draft
from .tables import Row

_PARTS = ("prepDataset", "shapeDataset")
_TUTOR_SYSTEM = """\
You are a tutor of Italian. Lead the student in short turns to say "{phrase}" in Italian, without saying it. The facts: first, {}; second, {}; \
third, {}. The answer is {answer}.

The dialogue so far:
{dialogue}"""


def cima_rows(path: Path) -> Iterator[Row]:
    """Yields the exercises of ``dataset.json``, each with its part and key as its place.

    Args:
        path: The file.

    Yields:
        Rows.

    Raises:
        ConfigError: If the file is another one.
    """
    parts = read_json(path, dict)
    if not any(isinstance(parts.get(name), dict) for name in _PARTS):
        raise ConfigError(f"{path} must have `{_PARTS[0]}` or `{_PARTS[1]}`, as CIMA's `dataset.json` does")
    for name in _PARTS:
        for key, record in (parts.get(name) or {}).items():
            yield Row(f"{path} {name}/{key}", record)


def cima_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of an exercise: the model is the tutor, the opening turn is the student's last.

    Args:
        record: With ``past_convo``, in which tutor and student speak in turn, ``tutorResponses``, and the phrase's words in
            both languages.

    Returns:
        The draft.

    Raises:
        ValueError: If something is missing, or the student did not speak last.
    """
    said = _texts(record, "past_convo")
    if len(said) % 2:
        raise ValueError("`past_convo` must end with the student, who speaks second: the number of its turns is odd")
    replies = _texts(record, "tutorResponses")
    italian = [_word(record, name) for name in ("prep", "obj", "color")]
    english = [_word(record, name) for name in ("engPrep", "engObj", "engColor")]
    phrase, answer = f"{english[0]} {english[2]} {english[1]}", " ".join(italian)
    facts = [f"{one} = {other}" for one, other in zip(english, italian, strict=True)]
    tried = " ".join(said[1::2]).lower()
    missing = next((number for number, word in enumerate(italian) if word.lower() not in tried), len(italian) - 1)
    dialogue = "\n".join(f"{('Tutor', 'Student')[number % 2]}: {text}" for number, text in enumerate(said[:-1]))
    return Draft(
        (said[-1],),
        group=phrase,
        system=_TUTOR_SYSTEM.format(*facts, phrase=phrase, answer=answer, dialogue=dialogue),
        reference=replies[0],
        tags=("tutoring", "italian"),
        persona=f"You are a student who is to say in Italian: {phrase}",
        goal=f"You lack one fact: {facts[missing]}. Once the tutor has explained it, say your own answer. Never say it before.",
        hidden={"answer": answer, "facts": facts, "missing": missing, "quick": True, "replies": list(replies)},
    )


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    found = record.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"`{name}` must be a list of texts that are not empty")
    return [text.strip() for text in found]


def _word(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"`{name}` must be a text, not {found!r}")
    return found.strip()


_BUYER_SYSTEM = (
    "You are buying this for yourself: {title}. {description} It is worth ${price} to you: pay less if you can, and never more. Name a "
    "price as $N. To close at the seller's last price, say: Deal at $N. Answer in one short sentence."
)
_USUAL = 0.7
"""Of the listed price: what the middle one of the data set's buyers hopes for."""


def craigslist_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of a listing: the policy's model buys, the user sells.

    Args:
        record: A dialogue, a scenario, or a listing with ``title``, ``price``, ``category`` and ``description``.

    Returns:
        The draft.

    Raises:
        ValueError: If it is none of these.
    """
    scenario = record.get("scenario", record)
    if not isinstance(scenario, Mapping):
        raise ValueError(f"`scenario` must be an object, not {scenario!r}")
    item, hopes = _sides(scenario) if "kbs" in scenario else (record, {})
    named = {str(name).lower(): value for name, value in item.items()}
    title, price = named.get("title"), _price(named.get("price"), "price")
    if not isinstance(title, str) or not title.strip() or price is None or price <= 0:
        raise ValueError(
            "expected a listing with a `title` and a `price` above 0, a scenario with `kbs`, or a dialogue"
        )
    lines = [] if (described := named.get("description")) is None else described
    if not isinstance(lines, str | list):
        raise ValueError(f"`description` must be a text or a list of texts, not {lines!r}")
    description = " ".join([lines] if isinstance(lines, str) else [line for line in lines if isinstance(line, str)])
    lowest = hopes.get("seller_bottomline", hopes.get("buyer_target", round(_USUAL * price)))
    if lowest >= price:
        raise ValueError(f"nothing can be won: the lowest price {lowest} is not below the listed one, {price}")
    category = named.get("category", record.get("category"))
    title = title.strip()
    return Draft(
        (f"Hello, I am selling this: {title}. It is in good shape. I would like to have ${_plain(price)}.",),
        group=f"{title}\n{description}",
        system=_BUYER_SYSTEM.format(title=title, description=description, price=_plain(price)),
        tags=("bargain", *([category] if isinstance(category, str) and category else [])),
        persona=f"You are selling this and asked ${_plain(price)}: {title}",
        goal=f"Sell for as much as you can, and never for less than ${_plain(lowest)}. Name every price as $N. "
        "The sale is done when the buyer says: Deal at $N, with your last price.",
        hidden={"value": price, "reserve": lowest, "asked": price, "mood": "calm"},
    )


def _plain(price: float) -> str:
    return f"{price:.2f}".removesuffix(".00")


def _sides(scenario: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, float]]:
    """The listing as the buyer sees it, and what both hope for."""
    item: Mapping[str, Any] | None = None
    hopes: dict[str, float] = {}
    for side in scenario["kbs"] if isinstance(scenario["kbs"], list) else []:
        personal = side.get("personal") if isinstance(side, Mapping) else None
        if not isinstance(side, Mapping) or not isinstance(personal, Mapping):
            raise ValueError(f"a side in `kbs` must be an object with `personal`, not {side!r}")
        role = personal.get("Role")
        if role == "buyer":
            item = side.get("item")
        for name in ("Target", "Bottomline"):
            if (value := _price(personal.get(name), name)) is not None:
                hopes[f"{role}_{name.lower()}"] = value
    if not isinstance(item, Mapping):
        raise ValueError("`kbs` must hold a side whose `Role` is `buyer`, with its `item`")
    return item, hopes


def _price(value: object, name: str) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None or value < 0 else value  # -1 stands for none
    raise ValueError(f"`{name}` must be a number, not {value!r}")
