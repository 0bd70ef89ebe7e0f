import asyncio
import gc
import re
import signal
import subprocess
import sys
import threading

import pytest

from duologue.core.concurrency import LoopThread


@pytest.fixture
def thread():
    made = LoopThread()
    yield made
    made.close()


async def value(x):
    await asyncio.sleep(0)
    return x


async def fail():
    raise LookupError("lost")


def test_run_returns_the_result_from_another_thread(thread):
    async def where():
        return threading.get_ident(), asyncio.get_running_loop()

    ident, loop = thread.run(where())
    assert ident != threading.get_ident()
    assert loop is thread.loop
    assert thread.run(value(3)) == 3


def test_run_raises_what_the_coroutine_raised(thread):
    with pytest.raises(LookupError, match="lost"):
        thread.run(fail())
    assert thread.run(value(1)) == 1


def test_run_on_the_loops_own_thread_is_an_error_and_no_deadlock(thread):
    async def within():
        with pytest.raises(RuntimeError, match="await the coroutine instead"):
            thread.run(value(1))
        return await value(2)

    assert thread.run(within()) == 2


def test_run_from_many_threads(thread):
    results = []
    callers = [threading.Thread(target=lambda i=i: results.append(thread.run(value(i)))) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(results) == list(range(8))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs Unix signals")
def test_an_interrupt_cancels_the_coroutine(thread):
    main, ended = threading.main_thread().ident, threading.Event()

    def interrupt_once(*_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    async def interrupted():
        try:
            while sys._current_frames()[main].f_code.co_name != "wait":
                await asyncio.sleep(0)
            while True:  # more than once: a signal just before the wait begins does not wake it
                signal.pthread_kill(main, signal.SIGINT)
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    before = signal.signal(signal.SIGINT, interrupt_once)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.run(interrupted())
        assert ended.wait(10)
    finally:
        signal.signal(signal.SIGINT, before)


def test_submit_does_not_wait(thread):
    gate = threading.Event()

    async def wait():
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 10)
        return "done"

    future = thread.submit(wait())
    assert not future.done()
    gate.set()
    assert future.result(10) == "done"


def test_a_batch_of_coroutines_runs_to_its_end_although_nobody_holds_it(thread):
    ended, all_ended = [], threading.Event()

    async def one(i):
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        if i == 4:  # all have begun
            gc.collect()
        await future
        ended.append(i)
        if len(ended) == 5:
            all_ended.set()

    thread.spawn_batch([one(i) for i in range(5)])
    assert all_ended.wait(10)
    assert sorted(ended) == list(range(5))


def test_close_cancels_what_runs_lets_it_clean_up_and_ends_the_thread():
    thread, started, cleaned = LoopThread(), threading.Event(), []

    async def forever():
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    future = thread.submit(forever())
    assert started.wait(10)
    thread.close()
    assert cleaned == [True]
    assert future.cancelled()
    assert thread.loop.is_closed()
    assert not [t for t in threading.enumerate() if t is thread._thread]


def test_close_twice_does_nothing():
    thread = LoopThread()
    thread.close()
    thread.close()


def test_run_after_close_is_an_error():
    thread = LoopThread()
    thread.close()
    with pytest.raises(RuntimeError, match="closed"):
        thread.run(value(1))
    gc.collect()  # a coroutine that was never awaited would warn here


def test_a_thread_that_foreign_code_holds_is_left_behind(monkeypatch):
    monkeypatch.setattr("duologue.core.concurrency.CLOSING_S", 0.2)
    thread, held, release = LoopThread(), threading.Event(), threading.Event()

    async def hold():
        held.set()
        release.wait(60)

    thread.submit(hold())
    assert held.wait(30)
    assert not thread.cancel_all()
    thread.close()
    release.set()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_exits_tells_its_caller_and_the_loop_goes_on(thread, error):
    async def leave():
        raise error

    async def inner():
        return await asyncio.gather(leave(), value(1))

    with pytest.raises(type(error)):
        thread.run(inner())
    assert thread.run(value(2)) == 2


BLOCKS = """
import sys, time
from duologue.core import concurrency as loop
loop.PATIENCE_S = 0.5

async def blocked():
    doze()

def doze():
    end = time.monotonic() + 60
    while time.monotonic() < end and not said():
        time.sleep(0.05)

def said():
    return sys.stderr.seen

class Stderr:
    seen = False
    def write(self, text):
        self.seen |= "has kept" in text
        return sys.__stderr__.write(text)
    def flush(self): sys.__stderr__.flush()

sys.stderr = Stderr()
thread = loop.LoopThread()
thread.run(blocked())
thread.close()
print("over")
"""


def test_code_that_blocks_the_loop_is_named_with_file_and_line(tmp_path):
    path = tmp_path / "my_code.py"
    path.write_text(BLOCKS)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout == "over\n"
    assert re.search(r"my_code.py, line \d+: `(doze|said)` has kept the event loop to itself for 0.5 s", done.stderr)
    assert done.stderr.count("has kept") == 1
