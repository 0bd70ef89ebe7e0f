"""CraigslistBargain (He, Chen, Balakrishnan and Liang 2018): listings and what buyer and seller hope for, in JSON.

Three kinds of its files are read, each a list: dialogues (``scenario`` in each), scenarios (``kbs``), and the listings that both were made of.
The dialogues' words are not used: what a seller said to another buyer answers nothing that a policy's model says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .drafts import Draft

_SYSTEM = """\
You want to buy this from the seller you talk to, for as little as you can{target}.
{title}, listed for ${price:,}. {description}"""


def craigslist_draft(record: Mapping[str, Any]) -> Draft:
    """Makes a scenario of a listing: the policy's model buys, the user sells.

    Args:
        record: A dialogue, a scenario, or a listing with ``title``, ``price``, ``category`` and ``description``.

    Raises:
        ValueError: If it is none of these.
    """
    scenario = record.get("scenario", record)
    item, hopes = _sides(scenario) if "kbs" in scenario else (record, {})
    named = {name.lower(): value for name, value in item.items()}
    title, price = named.get("title"), _price(named.get("price"), "price")
    if not isinstance(title, str) or not title.strip() or price is None or price <= 0:
        raise ValueError(
            "expected a listing with a `title` and a `price` above 0, a scenario with `kbs`, or a dialogue"
        )
    lines = named.get("description") or []
    description = " ".join([lines] if isinstance(lines, str) else [line for line in lines if isinstance(line, str)])
    target = hopes.get("buyer_target")
    category = named.get("category", record.get("category"))
    sold = f" at about ${hopes['seller_target']:,}" if "seller_target" in hopes else " for what it is listed at"
    return Draft(
        (f"Hello! Yes, it is still available: {title.strip()}, for ${price:,}. Are you interested?",),
        group=f"{title.strip()}\n{description}",
        system=_SYSTEM.format(
            title=title.strip(),
            price=price,
            description=description,
            target=f", at best for ${target:,}" if target else "",
        ).strip(),
        tags=("bargain", *([category] if isinstance(category, str) and category else [])),
        persona="a private seller",
        goal=f"to sell it{sold}",
        hidden={"list_price": price, **hopes},
    )


def _sides(scenario: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, float]]:
    """The listing as the buyer sees it, and what both hope for."""
    item: Mapping[str, Any] | None = None
    hopes: dict[str, float] = {}
    for side in scenario["kbs"] if isinstance(scenario["kbs"], list) else []:
        personal = side.get("personal", {})
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
