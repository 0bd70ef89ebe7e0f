"""Endpoints and the client that asks them; knows nothing of dialogues, judges or training."""

from .cassette import Cassette
from .client import InferenceClient
from .completion import Completion, Message, TokenLogprob, TopLogprob
from .encoders import Encoder, make_encoder
from .endpoint import Endpoint, Price, Sampling, endpoints_from_settings
from .errors import (
    CallFailed,
    CassetteError,
    CassetteMiss,
    ConfigError,
    DuologueError,
    EndpointRefused,
    InferenceError,
    PluginError,
    ScenarioError,
)
from .meter import Meter, Usage

__all__ = [
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
    "Message",
    "Meter",
    "PluginError",
    "Price",
    "Sampling",
    "ScenarioError",
    "TokenLogprob",
    "TopLogprob",
    "Usage",
    "endpoints_from_settings",
    "make_encoder",
]
