"""CraigslistBargain (He, Chen, Balakrishnan and Liang 2018): listings and what buyer and seller hope for, in JSON.

Three kinds of its files are read, each a list: dialogues (``scenario`` in each), scenarios (``kbs``), and the listings that
both were made of. The dialogues' words are not used: what a seller said to another buyer answers nothing that a policy's
model says. They can be played as the game `bargain`, whose hidden facts they have: the listed price is what the item is worth
to the buyer, and the lowest one what the buyer hoped for, so that the game's outcome is the share of the hope that came true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .drafts import Draft

_SYSTEM = (
    "You are buying this for yourself: {title}. {description} It is worth ${price} to you: pay less if you can, and never more. Name a "
    "price as $N. To close at the seller's last price, say: Deal at $N. Answer in one short sentence."
)
_USUAL = 0.7
"""Of the listed price: what the middle one of the data set's buyers hopes for."""


def craigslist_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of a listing: the policy's model buys, the user sells.

    Args:
        record: A dialogue, a scenario, or a listing with ``title``, ``price``, ``category`` and ``description``.

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
        system=_SYSTEM.format(title=title, description=description, price=_plain(price)),
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
