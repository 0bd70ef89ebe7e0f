"""The store of requests and answers: nothing is paid for twice.

`cassette` is the entry, `database` has its SQLite and PostgreSQL forms. Money is in `inference.budget`.
"""

__all__: list[str] = []
