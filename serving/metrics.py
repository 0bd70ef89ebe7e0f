"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "duologue_requests", "Requests by model name and HTTP status", ["model", "status"], registry=registry
        )
        self.fallbacks = Counter(
            "duologue_fallbacks",
            "Requests that the frozen model answered without the policy",
            ["model", "reason"],
            registry=registry,
        )
        self.actions = Counter("duologue_actions", "Actions of the policy", ["model", "action"], registry=registry)
        self.in_flight = Gauge("duologue_in_flight", "Requests under way", registry=registry)
        self.seconds = Histogram(
            "duologue_request_seconds",
            "Until the answer, or a stream's beginning",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "duologue_decision_seconds", "Observing and deciding", ["model"], buckets=_SECONDS, registry=registry
        )
        self.clients_gone = Counter("duologue_clients_gone", "Requests whose client hung up", registry=registry)
        self.refused_connections = Counter(
            "duologue_refused_connections",
            "Connections that were closed for their limits, by reason",
            ["reason"],
            registry=registry,
        )
        self.canaries = Counter(
            "duologue_canaries", "Requests that the frozen model answered for comparison", ["model"], registry=registry
        )
        self.shadows = Counter(
            "duologue_shadow_matches",
            "Comparisons with the frozen model, by result",
            ["model", "result"],
            registry=registry,
        )
        self.win_rate = Gauge(
            "duologue_shadow_win_rate",
            "Against the frozen model: rate, low and high of its 95% interval",
            ["model", "bound"],
            registry=registry,
        )
