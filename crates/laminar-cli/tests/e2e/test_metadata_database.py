"""The metadata database goes away for 30 s: rows keep flowing and being committed, DDL fails clearly, then all is well."""

import os
import subprocess
import time

import pytest

from doubler import Doubler, new_database
from fragile import PARTS
from orders import PIPELINE, Orders, wait_until

ROWS = 200_000
DOWN_SECONDS = 30
# Each would stop the running pipeline if it did not ask the database first.
CHANGES = [
    "CREATE VIEW v AS SELECT key FROM orders",
    "RESTART PIPELINE doubler",
    "STOP PIPELINE doubler",
    "DROP PIPELINE doubler",
    PIPELINE.format(parallelism=1).replace("CREATE PIPELINE", "CREATE OR REPLACE PIPELINE"),
]


def parts(action):
    subprocess.run([PARTS, action, "postgres"], check=True, stdout=subprocess.DEVNULL, env=os.environ)


def test_data_flows_while_the_metadata_database_is_down(broker, postgres, binary, tmp_path, seed, say):
    doubler = Doubler(binary, broker, tmp_path, new_database("postgres", postgres, tmp_path), Orders(ROWS, seed))
    server = doubler.server().wait_until_ready()
    doubler.create(server, 2)
    doubler.feed.allow(ROWS // 10)
    wait_until(doubler.rows_out, 30, "the first rows")

    parts("stop")
    try:
        for change in CHANGES:
            with pytest.raises(AssertionError, match="metadata_unavailable"):
                server.sql(change)
        began = time.monotonic()
        before = after_a_while = doubler.rows_out()
        step = 1
        while time.monotonic() - began < DOWN_SECONDS:
            step += 1
            doubler.feed.allow(ROWS * step // 40)
            time.sleep(1)  # the outage lasts; each second must bring rows
            after_a_while = doubler.rows_out()
        assert after_a_while > before + ROWS // 4, f"only {after_a_while - before} rows came while the database was down"
        assert server.alive()
    finally:
        parts("start")
    verdict = doubler.finish(server)
    say(f"database down {DOWN_SECONDS} s, {after_a_while - before} rows committed meanwhile; {verdict}")
    wait_until(lambda: works_again(server), 30, "DDL to work again")
    assert server.stop() == 0


def works_again(server):
    try:
        server.sql("CREATE VIEW works_again AS SELECT key FROM orders")
        return True
    except AssertionError:
        return False
