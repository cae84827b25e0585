"""Kafka → filter and project → Kafka while the process dies again and again: nothing lost, nothing twice.

A life of the server ends in one of two ways: `kill -9` at a random moment, or an abort at a named point of the commit
protocol (LAMINAR_CRASH_AT=point:n). The orders flow all the time: the feed is let a little further with each death, so
every life has rows in flight. The judge reads with `read_committed` and knows nothing of the engine.
"""

import random
import re
import signal
import time
from pathlib import Path

from doubler import Doubler, new_database
from orders import Orders

ROWS = 1_000_000
RANDOM_KILLS = 25
POINTS_FILE = Path(__file__).parents[3] / "laminar-engine/src/crash.rs"


def crash_points():
    """The names in the engine's own list, so that a new one is tested from the day it exists."""
    listed = re.search(r"POINTS: &\[&str\] = &\[(.*?)\];", POINTS_FILE.read_text(), re.S)
    points = re.findall(r'"([a-z-]+)"', listed.group(1))
    assert points, f"no crash points found in {POINTS_FILE}"
    return points


def pytest_generate_tests(metafunc):
    """One setting in every run, all of them with --full."""
    every = [(database, parallelism) for database in ("sqlite", "postgres") for parallelism in (1, 2, 4)]
    chosen = every if metafunc.config.getoption("--full") else [("sqlite", 2)]
    metafunc.parametrize("database, parallelism", chosen)


def test_no_row_is_lost_or_repeated(database, parallelism, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    doubler = Doubler(binary, broker, tmp_path, new_database(database, postgres, tmp_path), Orders(ROWS, seed))
    deaths = ["kill"] * RANDOM_KILLS + crash_points()
    dice.shuffle(deaths)
    say(f"{database}, parallelism {parallelism}: {ROWS} rows, {len(deaths)} deaths, seed {seed}")

    server = doubler.server().wait_until_ready()
    doubler.create(server, parallelism)
    server.kill()
    visible = []
    for number, death in enumerate(deaths, 1):
        doubler.feed.allow(ROWS * (number + 1) // (len(deaths) + 2))
        if death == "kill":
            server = doubler.server()
            time.sleep(dice.uniform(0.1, 3.0))  # the moment of death, counted from the start of the process
            server.kill()
        else:
            server = doubler.server({"LAMINAR_CRASH_AT": death})
            status = server.wait(60)
            assert status == -signal.SIGABRT, f"did not abort at {death}: status {status}\n{server.tail()}"
        visible.append(doubler.rows_out())
    lives_with_progress = sum(1 for before, after in zip(visible, visible[1:]) if after > before)

    server = doubler.server().wait_until_ready()
    verdict = doubler.finish(server)
    say(f"{verdict} kills {RANDOM_KILLS}+{len(deaths) - RANDOM_KILLS} ({lives_with_progress} lives made rows visible)")
    assert lives_with_progress > len(deaths) // 3, f"too few lives got far enough to prove anything: {visible}"
    assert server.stop() == 0
