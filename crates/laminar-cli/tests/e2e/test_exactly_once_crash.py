"""Kafka → filter and project → Kafka while the process dies again and again: nothing lost, nothing twice.

A life of the server ends in one of two ways: `kill -9` at a random moment (of half of the lives counted from the start of the
process, of the others from the first rows that it made visible), or an abort at a named point of the commit protocol
(LAMINAR_CRASH_AT=point:n, the n-th time it gets there). Each life gets its share of the orders, so rows are in flight
whenever it dies. The judge reads with `read_committed` and knows nothing of the engine.
"""

import random
import re
import signal
import time
from pathlib import Path

from doubler import Doubler, new_database
from orders import Orders, wait_until

RANDOM_KILLS = 25
POINTS_FILE = Path(__file__).parents[3] / "laminar-engine/src/crash.rs"


def crash_points():
    """The names in the engine's own list, so that a new one is tested from the day it exists."""
    listed = re.search(r"POINTS: &\[&str\] = &\[(.*?)\];", POINTS_FILE.read_text(), re.S)
    points = re.findall(r'"([a-z-]+)"', listed.group(1))
    assert points, f"no crash points found in {POINTS_FILE}"
    return points


def feed_for(feed, start, end, seconds):
    """Lets the feed go from `start` to `end` evenly over that time."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        feed.allow(start + int((end - start) * passed / seconds))
        time.sleep(0.02)
    feed.allow(end)


def pytest_generate_tests(metafunc):
    """One setting in every run, all of them with --full."""
    every = [(database, parallelism) for database in ("sqlite", "postgres") for parallelism in (1, 2, 4)]
    chosen = every if metafunc.config.getoption("--full") else [("sqlite", 2)]
    metafunc.parametrize("database, parallelism", chosen)


def test_no_row_is_lost_or_repeated(database, parallelism, crash_rows, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    doubler = Doubler(binary, broker, tmp_path, new_database(database, postgres, tmp_path), Orders(crash_rows, seed))
    deaths = ["kill"] * RANDOM_KILLS + crash_points()
    dice.shuffle(deaths)
    say(f"{database}, parallelism {parallelism}: {crash_rows} rows, {len(deaths)} deaths, seed {seed}")

    server = doubler.server().wait_until_ready()
    doubler.create(server, parallelism)
    server.kill()
    lives_with_progress = 0
    for number, death in enumerate(deaths):
        start, end = crash_rows * number // len(deaths), crash_rows * (number + 1) // len(deaths)
        before = doubler.rows_out()
        if death == "kill":
            server = doubler.server()
            if number % 2:
                start = (start + end) // 2
                doubler.feed.allow(start)
                wait_until(lambda: doubler.rows_out() > before, 60, f"life {number} to make rows visible")
            feed_for(doubler.feed, start, end, dice.uniform(0.0, 2.0))
            server.kill()
        else:
            doubler.feed.allow(end)
            nth = 1 if death.startswith("recover") else dice.randint(1, 5)
            server = doubler.server({"LAMINAR_CRASH_AT": f"{death}:{nth}"})
            status = server.wait(60)
            assert status == -signal.SIGABRT, f"did not abort at {death}: status {status}\n{server.tail()}"
        lives_with_progress += doubler.rows_out() > before

    server = doubler.server().wait_until_ready()
    verdict = doubler.finish(server)
    say(f"{verdict} kills {RANDOM_KILLS}+{len(deaths) - RANDOM_KILLS} ({lives_with_progress} lives made rows visible)")
    assert lives_with_progress > len(deaths) // 3, "too few lives got far enough to prove anything"
    assert server.stop() == 0
