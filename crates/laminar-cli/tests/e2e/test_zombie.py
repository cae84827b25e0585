"""A paused instance wakes up after another one took over: its transaction is fenced, it ends, and no row is doubled."""

import signal

import pytest

from doubler import Doubler
from laminar import Process
from orders import PIPELINE, Orders, wait_until

ROWS = 100_000


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_zombie_process_is_fenced(parallelism, broker, postgres, binary, tmp_path, seed, say):
    doubler = Doubler(binary, broker, tmp_path, None, Orders(ROWS, seed))
    script = tmp_path / "doubler.sql"
    script.write_text(doubler.tables() + PIPELINE.format(parallelism=parallelism))

    def start(name):
        return Process([binary, "run", script, "--state-dir", tmp_path / "state"], tmp_path / name)

    first = start("first")
    doubler.feed.allow(ROWS // 3)
    wait_until(doubler.rows_out, 60, "the first rows", first.tail)
    first.signal(signal.SIGSTOP)
    second = start("second")
    doubler.feed.allow(ROWS * 2 // 3)
    most_of_the_first = ROWS // 3  # no more than it was given
    wait_until(lambda: doubler.rows_out() > most_of_the_first, 60, "rows of the second", second.tail)
    first.signal(signal.SIGCONT)
    status = first.wait(60)
    assert status not in (0, None), f"the zombie ended with {status}\n{first.tail()}"
    assert "fenced" in first.tail(), first.tail()
    assert second.alive(), second.tail()
    verdict = doubler.finish(second)
    say(f"parallelism {parallelism}: the zombie ended with status {status}; {verdict}")
    assert second.stop() == 0
