"""The judges that ship with Duologue; `plugins.builtin` registers them, nothing imports them before they are chosen."""

__all__: list[str] = []
