"""Lives of a server that end badly, each with its share of the input.

A life ends in one of two ways: `kill -9` at a random moment (of a third of the lives counted from the start of the process,
of the others from the first rows that it made visible), or an abort at a named point of the commit protocol (LAMINAR_CRASH_AT=point:n,
the n-th time it gets there). Rows are in flight whenever it dies.
"""

import re
import signal
import time
from pathlib import Path

from orders import wait_until

POINTS_FILE = Path(__file__).parents[3] / "laminar-engine/src/crash.rs"


def crash_points():
    """The names in the engine's own list, so that a new one is tested from the day it exists."""
    listed = re.search(r"POINTS: &\[&str\] = &\[(.*?)\];", POINTS_FILE.read_text(), re.S)
    points = re.findall(r'"([a-z-]+)"', listed.group(1))
    assert points, f"no crash points found in {POINTS_FILE}"
    return points


def some_deaths(kills, dice, every_point):
    """So many kills, and four of the named points or all of them, in any order."""
    points = crash_points()
    deaths = ["kill"] * kills + (points if every_point else dice.sample(points, 4))
    dice.shuffle(deaths)
    return deaths


def die_again_and_again(scene, deaths, dice):
    """Gives each life of `scene` its share of the input; answers how many of them made something visible, which must be enough.

    `scene` has `orders.count`, a `feed` of them, `server(env)` that begins a life, and `rows_out()`: how much is visible.
    """
    count, lives_with_progress = scene.orders.count, 0
    for number, death in enumerate(deaths):
        start, end = count * number // len(deaths), count * (number + 1) // len(deaths)
        before = scene.rows_out()
        if death == "kill":
            server = scene.server()
            if number % 3:
                start = (start + end) // 2
                scene.feed.allow(start)
                wait_until(lambda: scene.rows_out() > before, 60, f"life {number} to make something visible", server.tail)
            feed_for(scene.feed, start, end, dice.uniform(0.0, 2.0))
            server.kill()
        else:
            scene.feed.allow(end)
            nth = 1 if death.startswith("recover") else dice.randint(1, 5)
            server = scene.server({"LAMINAR_CRASH_AT": f"{death}:{nth}"})
            status = server.wait(60)
            assert status == -signal.SIGABRT, f"did not abort at {death}: status {status}\n{server.tail()}"
        lives_with_progress += scene.rows_out() > before
    assert lives_with_progress > len(deaths) // 3, "too few lives got far enough to prove anything"
    return lives_with_progress


def feed_for(feed, start, end, seconds):
    """Lets the feed go from `start` to `end` evenly over that time."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        feed.allow(start + int((end - start) * passed / seconds))
        time.sleep(0.02)
    feed.allow(end)
