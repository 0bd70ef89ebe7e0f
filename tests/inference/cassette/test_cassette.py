"""The store of answers as processes see it: real files, real children, a real kill."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference import Cassette, CassetteError, CassetteMiss, ConfigError, InferenceClient

HELLO = [{"role": "user", "content": "Hello"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

WRITER = """
import asyncio, sys
from duologue.inference import Cassette

async def main(path, first, last):
    cassette = Cassette(path)
    for i in range(int(first), int(last)):
        key, request = cassette.key({"i": i})
        await cassette.keep(key, request, b"answer %d" % i, 0.5)
        print(i, flush=True)
    cassette.close()

asyncio.run(main(*sys.argv[1:]))
"""


def writer(path, first, last):
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def keep(cassette, request, body=b"answer", latency_s=0.5):
    asyncio.run(cassette.keep(*cassette.key(request), body, latency_s))


def find(cassette, request):
    return cassette.find(cassette.key(request)[0])


@pytest.fixture
def cassette(tmp_path):
    made = Cassette(tmp_path / "deep" / "folder" / "c.sqlite")
    yield made
    made.close()


def test_what_was_kept_is_found(cassette):
    assert find(cassette, {"i": 1}) is None
    keep(cassette, {"i": 1}, b"\x00 any bytes \xff", 0.25)
    assert find(cassette, {"i": 1}) == (b"\x00 any bytes \xff", 0.25)
    assert find(cassette, {"i": 2}) is None
    assert len(cassette) == 1


def test_the_first_answer_stays(cassette):
    keep(cassette, {"i": 1}, b"first")
    keep(cassette, {"i": 1}, b"second")
    assert find(cassette, {"i": 1}).body == b"first"
    assert len(cassette) == 1


def test_nothing_is_made_before_it_is_needed(tmp_path):
    Cassette(tmp_path / "folder" / "c.sqlite").close()
    assert list(tmp_path.iterdir()) == []


@given(request=st.dictionaries(st.text(), JSON, max_size=4))
def test_the_key_depends_on_the_content_and_not_on_the_order(request):
    backwards = dict(reversed(request.items()))
    assert Cassette.key(request) == Cassette.key(backwards)


@given(one=st.dictionaries(st.text(), JSON, max_size=3), other=st.dictionaries(st.text(), JSON, max_size=3))
def test_different_requests_have_different_keys(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Cassette.key(one)[0] == Cassette.key(other)[0]) == same


def test_the_key_is_the_same_in_every_version_of_the_program():
    """Raise KEY_VERSION when this changes: else answers that were paid for are lost."""
    digest, canonical = Cassette.key({"endpoint": "http://h/v1 m", "body": {"b": 1, "a": "é"}, "sample_index": 0})
    expected = '{"body":{"a":"é","b":1},"endpoint":"http://h/v1 m","sample_index":0,"version":1}'
    assert canonical.decode() == expected
    assert digest.hex() == "b17a23ca837c45a3bf7ec105a2300901787db520ab17f0d4f13587bc14ef6c5c"


def test_replay_finds_what_is_there_and_refuses_the_rest(cassette):
    keep(cassette, {"i": 1})
    replay = Cassette(cassette.path, "replay")
    assert find(replay, {"i": 1}).body == b"answer"
    with pytest.raises(CassetteMiss) as miss:
        find(replay, {"i": 2})
    assert str(cassette.path) in str(miss.value)
    assert "Set `inference.cassette.mode=record` to pay for what is missing" in str(miss.value)
    replay.close()


def test_off_neither_reads_nor_writes(cassette):
    keep(cassette, {"i": 1})
    off = Cassette(cassette.path, "off")
    assert find(off, {"i": 1}) is None
    keep(off, {"i": 2})
    off.close()
    assert len(cassette) == 1


def test_off_makes_no_file(tmp_path):
    off = Cassette(tmp_path / "c.sqlite", "off")
    keep(off, {"i": 1})
    assert find(off, {"i": 1}) is None
    assert len(off) == 0
    off.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="must be one of record, replay, off, not `rec`"):
        Cassette("c.sqlite", "rec")


def test_closing_twice_does_nothing_and_what_was_kept_is_there(tmp_path):
    cassette = Cassette(tmp_path / "c.sqlite")
    keep(cassette, {"i": 1})
    cassette.close()
    cassette.close()
    again = Cassette(tmp_path / "c.sqlite")
    assert len(again) == 1
    again.close()


def test_many_answers_at_once_are_all_kept(cassette):
    async def keep_all():
        await asyncio.gather(*(cassette.keep(*cassette.key({"i": i}), b"%d" % i, 0.0) for i in range(500)))

    asyncio.run(keep_all())
    assert [find(cassette, {"i": i}).body for i in range(500)] == [b"%d" % i for i in range(500)]


def test_a_second_process_reuses_what_the_first_paid_for(tmp_path, client, endpoint, server):
    answer = client.run(client.chat(endpoint, HELLO))
    second = f"""
import os
from duologue.inference import Cassette, Endpoint, InferenceClient
client = InferenceClient(Cassette({str(client.cassette.path)!r}, "replay"))
endpoint = Endpoint.from_settings({endpoint.to_settings()!r}, "x")
print(client.run(client.chat(endpoint, {HELLO!r})).text)
client.close()
"""
    done = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == answer.text
    assert len(server.requests) == 1


def test_a_killed_process_loses_nothing_that_it_had_kept(tmp_path):
    child = writer(tmp_path / "c.sqlite", 0, 1_000_000)
    seen = [int(child.stdout.readline()) for _ in range(200)]
    os.kill(child.pid, signal.SIGKILL)
    seen += [int(line) for line in child.stdout.read().splitlines() if line]
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    cassette = Cassette(tmp_path / "c.sqlite")
    assert [find(cassette, {"i": i}).body for i in seen] == [b"answer %d" % i for i in seen]
    keep(cassette, {"i": -1})  # and one can go on
    assert find(cassette, {"i": -1}).body == b"answer"
    cassette.close()


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    ranges = [(0, 150), (100, 250)]
    children = [writer(tmp_path / "c.sqlite", *span) for span in ranges]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    cassette = Cassette(tmp_path / "c.sqlite")
    assert len(cassette) == 250
    assert all(find(cassette, {"i": i}).body == b"answer %d" % i for i in range(250))
    cassette.close()


def assert_names_the_cure(error, path):
    text = str(error.value)
    assert text.startswith(f"the cassette {path} cannot be ")
    assert text.endswith(
        "Mend or move the file, set `inference.cassette.path` to another place, or set `inference.cassette.mode=off`"
    )


def a_text_file(path):
    path.write_text("this is no database " * 500)


def a_folder(path):
    path.mkdir()


def below_a_file(path):
    path.parent.rmdir()
    path.parent.write_text("a file where a folder should be")


def another_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (question TEXT)")
    connection.close()


def a_torn_file(path):
    cassette = Cassette(path)
    for i in range(20):
        keep(cassette, {"i": i}, os.urandom(2000))
    cassette.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))


@pytest.mark.parametrize("spoil", [a_text_file, a_folder, below_a_file, another_table, a_torn_file])
def test_a_file_that_cannot_be_used_is_an_error_with_the_cure_before_anything_is_paid(
    tmp_path, endpoint, server, spoil
):
    path = tmp_path / "place" / "c.sqlite"
    path.parent.mkdir()
    spoil(path)
    client = InferenceClient(Cassette(path))
    with pytest.raises(CassetteError) as error:
        client.run(client.chat(endpoint, HELLO))
    client.close()
    assert_names_the_cure(error, path)
    assert server.requests == []


@pytest.mark.parametrize("spoil", [a_text_file, a_folder, below_a_file])
def test_counting_and_writing_name_the_cure_too(tmp_path, spoil):
    path = tmp_path / "place" / "c.sqlite"
    path.parent.mkdir()
    spoil(path)
    cassette = Cassette(path)
    with pytest.raises(CassetteError) as counted:
        len(cassette)
    with pytest.raises(CassetteError) as written:
        keep(cassette, {"i": 1})
    cassette.close()
    assert_names_the_cure(counted, path)
    assert_names_the_cure(written, path)


def test_counting_a_broken_table_names_the_cure(cassette):
    keep(cassette, {"i": 1})
    assert len(cassette) == 1
    with sqlite3.connect(cassette.path) as other:
        other.execute("DROP TABLE answers")
    other.close()
    with pytest.raises(CassetteError) as error:
        len(cassette)
    assert_names_the_cure(error, cassette.path)


def test_an_answer_that_was_damaged_is_an_error_with_the_cure(cassette):
    keep(cassette, {"i": 1})
    with sqlite3.connect(cassette.path) as other:
        other.execute("UPDATE answers SET body = X'0123'")
    other.close()
    with pytest.raises(CassetteError) as error:
        find(cassette, {"i": 1})
    assert_names_the_cure(error, cassette.path)


def test_nobody_is_told_that_an_answer_is_kept_when_the_shared_write_failed(cassette):
    keep(cassette, {"i": 0})
    with sqlite3.connect(cassette.path) as other:
        other.execute("DROP TABLE answers")
    other.close()

    async def keep_all():
        calls = (cassette.keep(*cassette.key({"i": i}), b"answer", 0.0) for i in range(1, 6))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in asyncio.run(keep_all())] == [CassetteError] * 5


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs Unix permissions")
def test_a_read_only_folder_is_an_error_with_the_cure():
    """In a child that gives up root, which no permission stops."""
    script = """
import os, sys
from duologue.inference import Cassette, CassetteError
if os.geteuid() == 0:
    os.setuid(65534)
cassette = Cassette(sys.argv[1])
try:
    cassette.find(b"key")
except CassetteError as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o555)
        path = Path(folder) / "c.sqlite"
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        os.chmod(folder, 0o755)
        assert list(Path(folder).iterdir()) == []
    assert done.stdout.startswith(f"the cassette {path} cannot be opened: ")
    assert "set `inference.cassette.path` to another place" in done.stdout


def test_no_reader_waits_for_a_writer(cassette):
    """Another process holds the write lock; what is kept is found all the same, and at once."""
    keep(cassette, {"i": 1})
    other = sqlite3.connect(cassette.path)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    assert cassette.find(Cassette.key({"i": 1})[0]) is not None
    assert cassette.find(Cassette.key({"i": 2})[0]) is None
    assert time.monotonic() - start < 1
    other.rollback()
    other.close()


def test_answers_that_arrive_together_share_a_commit_and_none_is_lost(cassette):
    async def all_at_once():
        async def one(i):
            key, request = Cassette.key({"i": i})
            await cassette.keep(key, request, b"answer %d" % i, 0.1)

        await asyncio.gather(*(one(i) for i in range(500)))

    asyncio.run(all_at_once())
    assert len(cassette) == 500
    assert all(cassette.find(Cassette.key({"i": i})[0]).body == b"answer %d" % i for i in range(500))


def test_who_goes_away_while_an_answer_is_kept_takes_nothing_with_them(cassette):
    async def main():
        key, request = Cassette.key({"i": 1})
        task = asyncio.create_task(cassette.keep(key, request, b"answer", 0.1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    cassette.close()
    assert cassette.find(Cassette.key({"i": 1})[0]).body == b"answer"


FULL = """
import asyncio, os, resource, signal, sys
from duologue.inference import Cassette, CassetteError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit is then an error, as on a full disk
cassette = Cassette(sys.argv[1])

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    kept = 0
    try:
        while True:
            await cassette.keep(*cassette.key({"i": kept}), os.urandom(20_000), 0.5)
            kept += 1
    except CassetteError as error:
        print(kept)
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await cassette.keep(*cassette.key({"i": "later"}), b"there is room again", 0.5)
    cassette.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_with_the_cure_and_what_was_kept_stays(tmp_path):
    path = tmp_path / "c.sqlite"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60)
    kept, said = done.stdout.splitlines()
    assert int(kept) > 3, done.stderr
    assert "cannot be written" in said
    assert "inference.cassette.mode=off" in said
    cassette = Cassette(path, "replay")
    assert len(cassette) == int(kept) + 1
    assert all(len(find(cassette, {"i": i}).body) == 20_000 for i in range(int(kept)))
    assert find(cassette, {"i": "later"}).body == b"there is room again"
    cassette.close()


RACE = """
import sys, time
from pathlib import Path
from duologue.inference.cassette.database import SQLiteAnswers
folder = Path(sys.argv[1])
for number in range(40):
    begin = float(sys.argv[2]) + number * 0.05
    while time.time() < begin:
        pass
    SQLiteAnswers(folder / f"{number}.sqlite").count()
"""


def test_processes_that_open_a_new_file_at_once_wait_for_each_other(tmp_path):
    begin = str(time.time() + 2)
    begun = [subprocess.Popen([sys.executable, "-c", RACE, tmp_path, begin], stderr=subprocess.PIPE) for _ in range(4)]
    ended = [process.communicate(timeout=60)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * 4, ended


def test_whatever_keeps_an_answer_from_being_written_is_told_to_its_asker(cassette):
    with pytest.raises(CassetteError, match="cannot be written: TypeError"):
        keep(cassette, {"i": 1}, "a text and no bytes")
    keep(cassette, {"i": 2})
    assert find(cassette, {"i": 1}) is None
    assert len(cassette) == 1
