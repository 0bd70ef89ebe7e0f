"""Endpoints and the client that asks them; knows nothing of dialogues, judges or training."""

from ..core.errors import (
    BudgetSpent,
    CallFailed,
    CassetteError,
    CassetteMiss,
    ConfigError,
    DuologueError,
    EndpointRefused,
    InferenceError,
    Interrupted,
    PluginError,
    Rejected,
    RunStopped,
    ScenarioError,
    TooManyFailures,
    Unreadable,
)
from .budget.budget import Budget, Limits
from .budget.usage import Meter, Usage
from .cassette.cassette import Cassette
from .client import InferenceClient
from .completion import Completion, Message, TokenLogprob, TopLogprob
from .encoders import Encoder, make_encoder
from .endpoint import Endpoint, Price, Sampling, endpoints_from_settings
from .transport.retries import RetryBudget

__all__ = [
    "Budget",
    "BudgetSpent",
    "CallFailed",
    "Cassette",
    "CassetteError",
    "CassetteMiss",
    "Completion",
    "ConfigError",
    "DuologueError",
    "Encoder",
    "Endpoint",
    "EndpointRefused",
    "InferenceClient",
    "InferenceError",
    "Interrupted",
    "Limits",
    "Message",
    "Meter",
    "PluginError",
    "Price",
    "Rejected",
    "RetryBudget",
    "RunStopped",
    "Sampling",
    "ScenarioError",
    "TokenLogprob",
    "TooManyFailures",
    "TopLogprob",
    "Unreadable",
    "Usage",
    "endpoints_from_settings",
    "make_encoder",
]
