"""A PostgreSQL server of Debian's packages, for as long as tests need one: on a socket in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where its programs are; Debian keeps them off the path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def _user() -> str | None:
    """Whom it runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server; yields the address of its database, and removes everything at the end."""
    place = programs()
    assert place is not None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the socket's path may have 107 characters
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    owned = {"user": user} if user else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/", **owned}
    try:
        made = [place / "initdb", "-D", data, "-U", "duologue", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(made, check=True, **quiet)
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        control = [place / "pg_ctl", "-D", data, "-w", "-t", "60"]
        subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **quiet)
        try:
            yield f"postgresql://duologue@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
