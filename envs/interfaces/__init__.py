"""Action interfaces: what the policy decides."""

from .base import ActionInterface, Request
from .decode import Decode, StrategyDecode
from .plain import Plain
from .propose_select import ProposeSelect
from .registry import INTERFACES, make_interface
from .route import Route
from .select import Select
from .strategy import Strategy
from .text import Text

__all__ = [
    "INTERFACES",
    "ActionInterface",
    "Decode",
    "Plain",
    "ProposeSelect",
    "Request",
    "Route",
    "Select",
    "Strategy",
    "StrategyDecode",
    "Text",
    "make_interface",
]
