"""Four partitions, parallelism 1, 2 and 4, both metadata databases: every row once, in order per key, metadata right."""

import pytest

from doubler import Doubler, new_database
from orders import Orders

ROWS = 100_000


@pytest.mark.parametrize("parallelism", [1, 2, 4])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_row_once_in_order_with_its_metadata(database, parallelism, broker, postgres, binary, tmp_path, seed, say):
    doubler = Doubler(binary, broker, tmp_path, new_database(database, postgres, tmp_path), Orders(ROWS, seed))
    server = doubler.server().wait_until_ready()
    doubler.create(server, parallelism)
    doubler.feed.allow(ROWS // 2)
    doubler.reader.wait_for(ROWS // 4, patience=30)
    server.stop()  # a stop with a checkpoint, and a restart from it, in the middle
    server = doubler.server().wait_until_ready()
    verdict = doubler.finish(server)
    [pipeline] = server.sql("SELECT id FROM system.pipelines")["rows"][0]
    assert server.stop() == 0
    committed = broker.group_offsets(f"laminar-{pipeline}", doubler.source)
    for partition, offset in broker.ends(doubler.source).items():
        assert committed[partition] >= offset, f"Kafka's tools see a lag: {committed} of {broker.ends(doubler.source)}"
    say(f"{database}, parallelism {parallelism}: {verdict}, group offsets at the end")
