"""A compacted topic read as a table, through kill -9: rows that replace each other, tombstones, and what is computed of them.

Which row of a key is there follows from the orders' numbers, so the judge needs no copy of what was sent.
"""

import json
import random
from collections import Counter

from deaths import die_again_and_again, some_deaths
from doubler import new_database
from laminar import Server
from orders import Feed, wait_until

ROWS = 60_000
KEYS = 700
KILLS = 6

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');
CREATE TABLE people (id BIGINT PRIMARY KEY, city TEXT NOT NULL, age BIGINT NOT NULL)
  WITH (connector = 'broker', topic = '{people}', type = 'source', format = 'json', upsert = 'true');
CREATE TABLE copies (id BIGINT PRIMARY KEY, city TEXT, age BIGINT) WITH (connector = 'broker', topic = '{copies}', type = 'sink', format = 'json');
CREATE TABLE cities (city TEXT PRIMARY KEY, n BIGINT, years BIGINT) WITH (connector = 'broker', topic = '{cities}', type = 'sink', format = 'json');
"""

PIPELINES = {
    "copies": "SELECT id, city, age FROM people WHERE age >= 18",
    "cities": "SELECT city, count(*), sum(age) FROM people GROUP BY city",
}


class People:
    """Each order is one record: the row of its key, or now and then a tombstone."""

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def dice(self, seq):
        return (seq + self.seed) * 2_654_435_761 >> 7

    def key(self, seq):
        return str(self.dice(seq) % KEYS)

    def row(self, seq):
        """Of its key from then on; `None`: there is none."""
        dice = self.dice(seq) // KEYS
        return None if dice % 5 == 0 else (int(self.key(seq)), f"city {dice % 7}", dice % 100)

    def value(self, seq):
        row = self.row(seq)
        return None if row is None else json.dumps(dict(zip(("id", "city", "age"), row, strict=True)))

    def last(self):
        rows = {self.key(seq): self.row(seq) for seq in range(self.count)}
        return [row for row in rows.values() if row is not None]


class Town:
    def __init__(self, binary, broker, folder, database, people):
        self.binary, self.broker, self.folder, self.database, self.orders = binary, broker, folder, database, people
        self.topics = {name: broker.create_topic(name) for name in ["people", *PIPELINES]}
        self.feed = Feed(broker, self.topics["people"], people)
        self.feed.start()
        keep = lambda m: ((m.partition(), m.offset()), m.key(), m.value() and tuple(json.loads(m.value()).values()))  # noqa: E731
        self.readers = {name: broker.reader(self.topics[name], keep) for name in PIPELINES}

    def server(self, env=None):
        return Server(self.binary, self.folder, self.database, env)

    def rows_out(self):
        return sum(len(reader.drain()) for reader in self.readers.values())

    def now(self, name):
        """The rows that the output topic holds for whoever reads it to its end."""
        last = {}
        for _, key, row in sorted(self.readers[name].drain(), key=lambda kept: kept[0]):
            last[key] = row
        return sorted(row for row in last.values() if row)


def test_a_compacted_topic_is_a_table(request, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    people = People(request.config.getoption("--rows") or ROWS, seed)
    town = Town(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), people)
    server = town.server().wait_until_ready()
    server.sql(SQL.format(address=broker.address, **town.topics))
    for name, query in PIPELINES.items():
        options = "parallelism = 2, checkpoint_interval = '200ms'"
        server.sql(f"CREATE PIPELINE {name}_pipeline WITH ({options}) AS INSERT INTO {name} {query}")
    server.kill()
    deaths = some_deaths(KILLS, dice, every_point=request.config.getoption("--full"))
    progress = die_again_and_again(town, deaths, dice)

    server = town.server().wait_until_ready()
    town.feed.finish()
    rows = people.last()
    n, years = Counter(city for _, city, _ in rows), Counter()
    for _, city, age in rows:
        years[city] += age
    expected = {
        "copies": sorted(row for row in rows if row[2] >= 18),
        "cities": sorted((city, n[city], years[city]) for city in n),
    }
    for name, wanted in expected.items():
        wait_until(lambda: town.now(name) == wanted, 60, f"the right {name}", lambda: f"{town.now(name)[:20]}\n{wanted[:20]}\n{server.tail()}")
    shown = server.sql("SELECT count(*), sum(age) FROM people")["rows"]
    assert shown == [[len(rows), sum(age for *_, age in rows)]], "a look at the table itself"
    wait_until(lambda: kept(server) == {f"{name}_pipeline": len(rows) for name in PIPELINES}, 30, "the ledger's kept rows", server.tail)
    say(f"{people.count} records of {KEYS} keys, {len(rows)} rows at the end, {len(deaths)} deaths ({progress} lives made something visible), seed {seed}")
    assert server.stop() == 0


def kept(server):
    """How many rows each pipeline's upsert keeps, at its latest checkpoint."""
    ledger = server.rows("SELECT * FROM system.ledger WHERE released IS NOT NULL ORDER BY epoch")
    assert all(row["difference"] == 0 and row["found"] + row["records_in"] == row["released"] + row["held"] for row in ledger), ledger
    return {row["pipeline_name"]: row["held"] for row in ledger}


def test_keys_of_tombstones(server, broker):
    """Text and numbers as they are, and objects of several columns; one that names no row is a bad record."""
    producer = broker.producer()

    def check(columns, key, records, expected, options=""):
        topic = broker.create_topic("upserts", 1)
        for record_key, value in records:
            producer.produce(topic, value and json.dumps(value), record_key)
        assert producer.flush(30) == 0
        name = topic.replace("-", "_")
        server.sql(
            f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) WITH (connector = 'kafka', bootstrap_servers = '{broker.address}', "
            f"topic = '{topic}', type = 'source', format = 'json', upsert = 'true', bad_data = 'skip'{options})"
        )
        assert sorted(server.sql(f"SELECT * FROM {name}")["rows"]) == expected, (columns, key, options)

    a, b = {"id": "a", "v": 1}, {"id": "b", "v": 2}
    check("id TEXT, v INT", "id", [("a", a), ("b", b), ("a", None), (None, None)], [["b", 2]])
    check("id TEXT, v INT", "id", [('"a"', a), ("b", b), ('"a"', None), ("b", None)], [["b", 2]], ", 'key.format' = 'json'")
    check("id BIGINT, v INT", "id", [("7", {"id": 7, "v": 1}), ("7", None), ("x", None), ("8", {"id": 8, "v": 2})], [[8, 2]])
    both = [({"a": 1, "b": "x", "v": 1}), ({"a": 1, "b": "y", "v": 2})]
    check("a INT, b TEXT, v INT", "a, b", [("", both[0]), ("", both[1]), ('{"b":"x","a":1}', None)], [[1, "y", 2]])
    check("id TEXT METADATA FROM 'key', v INT", "id", [("a", {"v": 1}), ("b", {"v": 2}), ("a", {"v": 3}), ("b", None)], [["a", 3]])
