"""Action interfaces: the decisions that a policy can make."""

from .base import ActionInterface, Request
from .one_phase import Decode, Plain, Route, Strategy, StrategyDecode
from .registry import INTERFACES, make_interface
from .select import ProposeSelect, Select
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
