"""Windows, an updating aggregate and a join, Kafka to Kafka, while the process dies again and again.

Three pipelines read the same orders. What they should write follows from the orders' numbers: each window once, each pair once,
and for each key a last row that has counted every order once.
"""

import json
import random
from collections import Counter, defaultdict

from deaths import die_again_and_again, some_deaths
from doubler import new_database
from laminar import Server
from orders import BASE_MS, Feed, Orders, millis, wait_until

ROWS = 200_000
RANDOM_KILLS = 8
PARTITIONS = 4
WINDOW_MS = 10_000
END = "end"

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');
CREATE TABLE orders (key TEXT, seq BIGINT, amount BIGINT, event_ts TIMESTAMP, WATERMARK FOR event_ts)
  WITH (connector = 'broker', topic = '{orders}', type = 'source', format = 'json', offset = 'earliest', timestamp_format = 'unix_millis');
CREATE TABLE windows (key TEXT, opened TIMESTAMP, n BIGINT, total BIGINT)
  WITH (connector = 'broker', topic = '{windows}', type = 'sink', format = 'json');
CREATE TABLE totals (key TEXT PRIMARY KEY, n BIGINT, total BIGINT)
  WITH (connector = 'broker', topic = '{totals}', type = 'sink', format = 'json');
CREATE TABLE pairs (seq BIGINT, sum BIGINT) WITH (connector = 'broker', topic = '{pairs}', type = 'sink', format = 'json');
"""

PIPELINES = {
    "windows": "SELECT key, w.start, n, total FROM (SELECT key, tumble(INTERVAL '10 seconds') AS w, count(*) AS n, "
    "sum(amount) AS total FROM orders GROUP BY key, w)",
    "totals": "SELECT key, count(*), sum(amount) FROM orders GROUP BY key",
    "pairs": "SELECT b.seq, a.amount + b.amount FROM orders a JOIN orders b ON b.seq = a.seq + 1 "
    "AND b.event_ts BETWEEN a.event_ts AND a.event_ts + INTERVAL '1 second'",
}


class Shop:
    """The pipelines with their topics, in an installation of their own."""

    def __init__(self, binary, broker, folder, database, orders):
        self.binary, self.broker, self.folder, self.database, self.orders = binary, broker, folder, database, orders
        self.topics = {name: broker.create_topic(name, PARTITIONS) for name in ["orders", *PIPELINES]}
        self.feed = Feed(broker, self.topics["orders"], orders)
        self.feed.start()

        def row(message):
            return (message.partition(), message.offset()), message.key(), json.loads(message.value())

        self.readers = {name: broker.reader(self.topics[name], row) for name in PIPELINES}

    def server(self, env=None):
        return Server(self.binary, self.folder, self.database, env)

    def create(self, server, parallelism):
        server.sql(SQL.format(address=self.broker.address, **self.topics))
        options = f"parallelism = {parallelism}, checkpoint_interval = '200ms', delivery = 'exactly_once'"
        for name, query in PIPELINES.items():
            server.sql(f"CREATE PIPELINE {name}_pipeline WITH ({options}) AS INSERT INTO {name} {query}")

    def rows_out(self):
        return sum(len(reader.drain()) for reader in self.readers.values())

    def finish(self):
        """Lets all orders through, and one more in each partition that closes the last windows."""
        self.feed.finish()
        producer = self.broker.producer()
        late = BASE_MS + self.orders.count + 10 * WINDOW_MS
        for partition in range(PARTITIONS):
            end = {"key": END, "seq": -10 - 2 * partition, "amount": 0, "event_ts": late}
            producer.produce(self.topics["orders"], json.dumps(end), END, partition=partition)
        assert producer.flush(30) == 0

    def wrong(self):
        """What is not as it should be; empty when all is."""
        orders = [(seq, self.orders.key(seq), self.orders.amount(seq)) for seq in range(self.orders.count)]
        windows, totals = defaultdict(lambda: [0, 0]), defaultdict(lambda: [0, 0])
        for seq, key, amount in orders:
            opened = (BASE_MS + seq) // WINDOW_MS * WINDOW_MS
            for group in (windows[key, opened], totals[key]):
                group[0] += 1
                group[1] += amount
        windows = Counter({(key, opened, n, total): 1 for (key, opened), (n, total) in windows.items()})
        pairs = Counter({(b[0], a[2] + b[2]): 1 for a, b in zip(orders, orders[1:])})

        rows = {name: [row for _, _, row in reader.drain()] for name, reader in self.readers.items()}
        seen = Counter((r["key"], millis(r["opened"]), r["n"], r["total"]) for r in rows["windows"] if r["key"] != END)
        problems = differences("window", windows, seen)
        problems += differences("pair", pairs, Counter((r["seq"], r["sum"]) for r in rows["pairs"]))
        last = {}
        for _, key, row in sorted(self.readers["totals"].kept, key=lambda kept: kept[0]):
            last[key] = (row["key"], row["n"], row["total"])
        expected = Counter({(key, n, total): 1 for key, (n, total) in totals.items()})
        return problems + differences("total", expected, Counter(row for row in last.values() if row[0] != END))


def differences(what, expected, seen):
    missing, surplus = expected - seen, seen - expected
    named = [("missing", missing), ("too many", surplus)]
    return [f"{what}: {rows.total()} {how}, such as {next(iter(rows))}" for how, rows in named if rows]


def pytest_generate_tests(metafunc):
    metafunc.parametrize("parallelism", [1, 2, 4] if metafunc.config.getoption("--full") else [2])


def test_state_survives_every_crash(parallelism, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    shop = Shop(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), Orders(ROWS, seed))
    deaths = some_deaths(RANDOM_KILLS, dice, every_point=False)
    say(f"windows, totals and pairs at parallelism {parallelism}: {ROWS} rows, {len(deaths)} deaths, seed {seed}")
    server = shop.server().wait_until_ready()
    shop.create(server, parallelism)
    server.kill()
    lives_with_progress = die_again_and_again(shop, deaths, dice)

    server = shop.server().wait_until_ready()
    shop.finish()
    problems = []

    def settled():
        problems[:] = shop.wrong()
        return not problems

    wait_until(settled, 60, "the right rows", lambda: "\n".join([*problems, server.tail()]))
    shop.readers["pairs"].drain(quiet=2)
    assert shop.wrong() == []
    say(f"rows {shop.rows_out()} wrong 0 ({lives_with_progress} of {len(deaths)} lives made rows visible)")
    assert server.stop() == 0
