"""Poisoned input through kill -9: every bad record is in the dead letters once, with its true place, and no good row is lost.

Records are good or poisoned by their number, so the judge needs no copy of what was sent; it reads the input back to learn where
each record stands, and both outputs with `read_committed`.
"""

import json
import random
from collections import Counter

import pytest

from deaths import die_again_and_again, some_deaths
from doubler import new_database
from laminar import Server, ask
from orders import BASE_MS, Feed, millis, wait_until
from poison import HUGE, Avro, Csv, Json, Protobuf, kinds

ROWS = 40_000
KILLS = 8
LONGEST = str(16 << 20)

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');

CREATE TABLE orders (id BIGINT NOT NULL, name TEXT, price DOUBLE)
WITH (
    connector = 'broker', topic = '{source}', type = 'source', offset = 'earliest', {format},
    bad_data = 'dlq', dlq_topic = '{letters}'
);

CREATE TABLE good (id BIGINT, quotient BIGINT, number BIGINT)
WITH (connector = 'broker', topic = '{sink}', type = 'sink', format = 'json');
"""

PIPELINE = """
CREATE PIPELINE poisoned WITH (parallelism = {parallelism}, checkpoint_interval = '200ms') AS
INSERT INTO good SELECT id, 1000 / CAST(price AS BIGINT), CAST(name AS BIGINT) FROM orders WHERE id % 10 <> 7;
"""


class Poisoned:
    """Records of which one in so many is poisoned. What the query filters is no dead letter, unless it is no row at all."""

    def __init__(self, count, seed, percent, format):
        self.count, self.seed, self.percent, self.format = count, seed, percent, format
        # Those that cannot be computed are made of their number, as the filter looks at it.
        self.kinds = [*kinds(format), ("division by zero", None, "expression"), ("a cast", None, "expression")]
        # Each once: all of them are in memory here, at the broker and in Laminar.
        self.huge = {count * (2 * i + 1) // 6: (name, value, "decode") for i, (name, value) in enumerate(HUGE)}

    def kind(self, seq):
        """Name, bytes and stage of a poisoned one."""
        if seq in self.huge:
            return self.huge[seq]
        dice = ((seq + self.seed) * 2_654_435_761 >> 7) % 100_000
        return self.kinds[dice % len(self.kinds)] if dice < self.percent * 1000 else None

    def key(self, seq):
        return f"k{seq % 500}"

    def value(self, seq):
        match self.kind(seq):
            case None:
                return self.format.encode(seq, str(seq), seq % 9 + 1)
            case ("division by zero", _, _):
                return self.format.encode(seq, str(seq), 0.25)
            case ("a cast", _, _):
                return self.format.encode(seq, f"x{seq}", 1)
            case (_, value, _):
                return value

    def stage(self, seq):
        """Where it fails; `None`: nowhere."""
        kind = self.kind(seq)
        stage = kind[2] if kind else None
        return None if stage == "expression" and seq % 10 == 7 else stage

    def good_rows(self):
        return [seq for seq in range(self.count) if self.kind(seq) is None and seq % 10 != 7]


class Scene:
    """The pipeline with its topics, in an installation of its own."""

    def __init__(self, binary, broker, folder, database, orders):
        self.binary, self.broker, self.folder, self.database, self.orders = binary, broker, folder, database, orders
        names = ("poisoned", "good", "letters")
        config = {"max.message.bytes": LONGEST}
        self.source, self.sink, self.letters = (broker.create_topic(name, config=config) for name in names)
        self.feed = Feed(broker, self.source, orders, **{"message.max.bytes": LONGEST})
        self.feed.CHUNK = 100
        self.feed.start()
        self.rows = broker.reader(self.sink, lambda m: json.loads(m.value()))
        self.dead = broker.reader(self.letters, record)

    def server(self, env=None):
        return Server(self.binary, self.folder, self.database, env)

    def create(self, server, tables, pipeline, format=""):
        names = {"source": self.source, "sink": self.sink, "letters": self.letters, "format": format}
        server.sql(tables.format(address=self.broker.address, **names))
        server.sql(pipeline)

    def rows_out(self):
        return len(self.rows.drain()) + len(self.dead.drain())

    def origins(self):
        """Each input record by its number."""
        reader = self.broker.reader(self.source, record)
        assert reader.wait_for(self.orders.count, 60), f"only {len(reader.kept)} records can be read back"
        return {int(dict(found["headers"])["n"]): found for found in reader.kept if dict(found["headers"])["n"] != b"-1"}


def record(message):
    return {
        "place": (message.topic(), message.partition(), message.offset()),
        "timestamp": message.timestamp()[1],
        "key": message.key(),
        "value": message.value(),
        "headers": message.headers() or [],
    }


def check_letters(scene, expected, table):
    """`expected`: the stage of each bad record, by its number."""
    letters, origins, problems = scene.dead.drain(quiet=2), scene.origins(), []
    seen = Counter()
    for letter in letters:
        ours = {k.removeprefix("__laminar.errors."): v.decode() for k, v in letter["headers"] if k.startswith("__laminar.errors.")}
        theirs = [(k, v) for k, v in letter["headers"] if not k.startswith("__laminar.errors.")]
        seq = int(dict(theirs)["n"])
        seen[seq] += 1
        origin = origins[seq]
        place = (ours["topic"], int(ours["partition"]), int(ours["offset"]))
        same = (letter["key"], letter["value"], theirs) == (origin["key"], origin["value"], origin["headers"])
        true = place == origin["place"] and int(ours["timestamp"]) == origin["timestamp"]
        said = ours["stage"] == expected.get(seq) and ours["table"] == table and ours["code"] and ours["message"]
        if seen[seq] > 1 or not (same and true and said):
            problems.append(f"{seq} ({seen[seq]} times): {ours}, expected {expected.get(seq)} at {origin['place']}")
    lost = [seq for seq in expected if seq not in seen]
    assert not problems and not lost, "\n".join([f"lost {len(lost)}: {lost[:5]}", f"wrong {len(problems)}", *problems[:5]])
    return len(letters)


def deaths_of(request, dice):
    return some_deaths(KILLS, dice, every_point=request.config.getoption("--full"))


@pytest.mark.parametrize("format, percent", [("json", 1), ("json", 50), ("json", 100), ("csv", 50), ("protobuf", 50), ("avro", 50)])
def test_every_bad_record_once_and_no_good_row_lost(
    format, percent, request, broker, registry_url, postgres, binary, tmp_path, seed, say
):
    dice = random.Random(seed)
    makers = {"json": Json, "csv": Csv, "protobuf": Protobuf, "avro": lambda: Avro(registry_url, f"poison-{seed}")}
    orders = Poisoned(request.config.getoption("--rows") or ROWS, seed, percent, makers[format]())
    assert len(orders.kinds) + len(HUGE) >= 200, len(orders.kinds)
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), orders)
    deaths = deaths_of(request, dice)
    server = scene.server().wait_until_ready()
    scene.create(server, SQL, PIPELINE.format(parallelism=2), orders.format.options)
    server.kill()
    progress = die_again_and_again(scene, deaths, dice)

    server = scene.server().wait_until_ready()
    scene.feed.finish()
    expected = {seq: stage for seq in range(orders.count) if (stage := orders.stage(seq))}
    good_rows = orders.good_rows()
    assert scene.rows.wait_for(len(good_rows), 60), f"{len(scene.rows.kept)} of {len(good_rows)} rows\n{server.tail()}"
    assert scene.dead.wait_for(len(expected), 60), f"{len(scene.dead.kept)} of {len(expected)} letters\n{server.tail()}"
    letters = check_letters(scene, expected, "orders")
    rows = Counter(row["id"] for row in scene.rows.drain(quiet=2))
    assert rows == Counter(good_rows), "good rows were lost or repeated"
    used = {orders.kind(seq)[0] for seq in expected}
    say(f"{format}, {percent} %: {letters} letters of {len(used)} kinds, {len(good_rows)} rows, "
        f"{len(deaths)} deaths ({progress} lives made something visible), seed {seed}")
    assert server.stop() == 0


SUMS_SQL = SQL.replace(
    "CREATE TABLE good (id BIGINT, quotient BIGINT, number BIGINT)", "CREATE TABLE sums (digit BIGINT PRIMARY KEY, n BIGINT, total BIGINT)"
)

SUMS_PIPELINE = """
CREATE PIPELINE summed WITH (parallelism = 2, checkpoint_interval = '200ms') AS
INSERT INTO sums SELECT CAST(name AS BIGINT) % 10, count(*), sum(1000 / CAST(price AS BIGINT)) FROM orders WHERE id % 10 <> 7 GROUP BY 1;
"""


def test_a_group_has_the_rows_that_can_be_computed(request, broker, postgres, binary, tmp_path, seed, say):
    """Of half of the rows the key or the argument of the aggregate cannot be computed."""
    dice = random.Random(seed)
    orders = Poisoned(request.config.getoption("--rows") or ROWS, seed, 50, Json())
    orders.kinds, orders.huge = [kind for kind in orders.kinds if kind[2] == "expression"], {}
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), orders)
    server = scene.server().wait_until_ready()
    scene.create(server, SUMS_SQL, SUMS_PIPELINE, Json.options)
    server.kill()
    progress = die_again_and_again(scene, deaths_of(request, dice), dice)

    server = scene.server().wait_until_ready()
    scene.feed.finish()
    expected = {seq: stage for seq in range(orders.count) if (stage := orders.stage(seq))}
    assert scene.dead.wait_for(len(expected), 60), f"{len(scene.dead.kept)} of {len(expected)} letters\n{server.tail()}"
    letters = check_letters(scene, expected, "orders")
    sums = Counter()
    for seq in orders.good_rows():
        sums[seq % 10, "n"] += 1
        sums[seq % 10, "total"] += 1000 // (seq % 9 + 1)

    def seen():
        last = {row["digit"]: row for row in scene.rows.drain()}
        return Counter({(digit, column): row[column] for digit, row in last.items() for column in ("n", "total")})

    wait_until(lambda: seen() == sums, 60, "the right sums", lambda: f"{seen()}\n{sums}\n{server.tail()}")
    say(f"{letters} letters, {len(orders.good_rows())} rows in the sums, {progress} lives made something visible, seed {seed}")
    assert server.stop() == 0


LATE_SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');

CREATE TABLE events (seq BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')
WITH (
    connector = 'broker', topic = '{source}', type = 'source', format = 'json', offset = 'earliest',
    timestamp_format = 'unix_millis', late_data = 'dlq', dlq_topic = '{letters}'
);

CREATE TABLE counted (starts TIMESTAMP, rows BIGINT)
WITH (connector = 'broker', topic = '{sink}', type = 'sink', format = 'json');
"""

LATE_PIPELINE = """
CREATE PIPELINE counting WITH (parallelism = 2, checkpoint_interval = '200ms') AS
INSERT INTO counted SELECT w.start, rows FROM (SELECT tumble(INTERVAL '5 seconds') AS w, count(*) AS rows FROM events GROUP BY 1);
"""


class Late:
    """Every so often a row is an hour behind its neighbours: late in every order in which partitions can be read."""

    def __init__(self, count):
        self.count = count

    def is_late(self, seq):
        return seq > 1000 and seq % 37 == 5

    def key(self, seq):
        return f"k{seq % 50}"

    def at(self, seq):
        return BASE_MS + seq * 10 - (3_600_000 if self.is_late(seq) else 0)

    def value(self, seq):
        return f'{{"seq":{seq},"at":{self.at(seq)}}}'

    def closed_windows(self, origins):
        """Rows of each window that the slowest partition has passed, by its start."""
        ends = {}
        for seq, found in origins.items():
            partition = found["place"][1]
            ends[partition] = max(ends.get(partition, 0), self.at(seq))
        passed = min(ends.values()) - 1000
        windows = Counter(self.at(seq) // 5000 * 5000 for seq in range(self.count) if not self.is_late(seq))
        return {start: rows for start, rows in windows.items() if start + 5000 <= passed}


def test_every_late_row_once(request, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    orders = Late(request.config.getoption("--rows") or ROWS)
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), orders)
    server = scene.server().wait_until_ready()
    scene.create(server, LATE_SQL, LATE_PIPELINE)
    server.kill()
    die_again_and_again(scene, deaths_of(request, dice), dice)

    server = scene.server().wait_until_ready()
    scene.feed.finish()
    expected = {seq: "late" for seq in range(orders.count) if orders.is_late(seq)}
    assert scene.dead.wait_for(len(expected), 60), f"{len(scene.dead.kept)} of {len(expected)} letters\n{server.tail()}"
    letters = check_letters(scene, expected, "events")
    windows = orders.closed_windows(scene.origins())
    assert scene.rows.wait_for(len(windows), 60), f"{len(scene.rows.kept)} of {len(windows)} windows\n{server.tail()}"
    counted = [(millis(row["starts"]), row["rows"]) for row in scene.rows.drain(quiet=2)]
    assert Counter(counted) == Counter(windows.items()), "a window came twice, or rows were lost or counted twice"
    say(f"{letters} late rows of {orders.count}, {len(windows)} windows, seed {seed}")
    assert server.stop() == 0


def test_letters_are_shown_and_put_back(broker, postgres, binary, tmp_path):
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), Poisoned(0, 0, 0, Json()))
    server = scene.server().wait_until_ready()
    scene.create(server, SQL, PIPELINE.format(parallelism=1), Json.options)
    producer = broker.producer()
    values = [Json().encode(0, "0", 1), b"\xff", Json().encode(2, "2", 3), b'{"id":3', Json().encode(4, "x4", 5)]
    for number, value in enumerate(values):
        producer.produce(scene.source, value, f"k{number}", partition=0, headers=[("n", str(number))])
    producer.flush(30)
    assert scene.rows.wait_for(2, 60) and scene.dead.wait_for(3, 60), server.tail()

    letters = server.rows("SELECT * FROM system.dead_letters WHERE pipeline_name = 'poisoned' ORDER BY \"offset\"")
    shown = [(row["table_name"], row["topic"], row["offset"], row["stage"], row["code"], row["key"], row["value"]) for row in letters]
    assert shown == [
        ("orders", scene.source, 1, "decode", "bad_data", "k1", "\\xff"),
        ("orders", scene.source, 3, "decode", "bad_data", "k3", '{"id":3'),
        ("orders", scene.source, 4, "expression", "invalid_value", "k4", values[4].decode()),
    ]
    assert [json.loads(row["headers"]) for row in letters] == [{"n": "1"}, {"n": "3"}, {"n": "4"}]

    ledger = wait_until(lambda: server.rows(LEDGER), 30, "a checkpoint's ledger", server.tail)
    source, project, sink = ledger[-3:]
    assert (source["records_read"], source["bad_records"], source["dead_letters"], source["records_out"]) == (5, 2, 3, 3)
    assert (project["records_in"], project["rejected"], project["filtered"], project["records_out"]) == (3, 1, 0, 2)
    assert (sink["table_name"], sink["records_in"], sink["records_out"]) == ("good", 2, 2)
    assert all(row["difference"] == 0 for row in ledger)
    read = server.rows("SELECT messages_in, (SELECT records_in FROM system.metrics WHERE kind = 'source') AS records_in FROM system.connections")
    assert read == [{"messages_in": 5, "records_in": 5}], read

    job = server.rows("SELECT id FROM system.jobs")[0]["id"]
    errors = ask(server.port, f"/api/v1/jobs/{job}/errors")["data"]
    assert {(e["record"]["stage"], e["record"]["topic"], e["record"]["position"]) for e in errors} == {
        ("decode", scene.source, 1), ("decode", scene.source, 3), ("expression", scene.source, 4)
    }, errors

    # Put back, the record is read again and is as bad as before: one more letter, which says what it was.
    assert "REPLAY 1" in json.dumps(server.sql("REPLAY DLQ poisoned WHERE stage = 'decode' AND \"offset\" = 1 LIMIT 1"))
    assert scene.dead.wait_for(4, 60), server.tail()
    again = [found for found in scene.dead.drain(quiet=1) if "__laminar.replayed" in dict(found["headers"])]
    assert [(found["key"], found["value"]) for found in again] == [(b"k1", b"\xff")]
    headers = [(name, value) for name, value in again[0]["headers"] if not name.startswith("__laminar.errors.")]
    assert headers == [("n", b"1"), ("__laminar.replayed", f"{scene.source}/0/1".encode())]
    assert "REPLAY 0" in json.dumps(server.sql("REPLAY DLQ poisoned WHERE stage = 'late'"))
    assert server.stop() == 0


LEDGER = """
SELECT * FROM system.ledger WHERE epoch = (SELECT max(epoch) FROM system.ledger WHERE records_read = 5) ORDER BY operator_id = 'sink-2', operator_id DESC
"""
