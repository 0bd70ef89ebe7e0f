"""One call to an endpoint: attempts, limits, retries and the HTTP connections.

`transport` is the entry. What the answers mean is in `inference.completion`; what is kept of them is in `inference.cassette`.
"""

__all__: list[str] = []
