"""Poisoned input through kill -9: every bad record is in the dead letters once, with its true place, and no good row is lost.

Records are good or poisoned by their number, so the judge needs no copy of what was sent; it reads the input back to learn where
each record stands, and both outputs with `read_committed`.
"""

import json
import random
import signal
from collections import Counter

import pytest

from doubler import new_database
from laminar import Server, ask
from orders import BASE_MS, Feed, millis, wait_until
from test_exactly_once_crash import crash_points, feed_for

ROWS = 40_000
KILLS = 8

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');

CREATE TABLE orders (
    seq BIGINT NOT NULL,
    divisor BIGINT,
    number TEXT,
    at TIMESTAMP
) WITH (
    connector = 'broker', topic = '{source}', type = 'source', format = 'json', offset = 'earliest',
    timestamp_format = 'unix_millis', bad_data = 'dlq', dlq_topic = '{letters}'
);

CREATE TABLE good (seq BIGINT, quotient BIGINT, number BIGINT)
WITH (connector = 'broker', topic = '{sink}', type = 'sink', format = 'json');
"""

PIPELINE = """
CREATE PIPELINE poisoned WITH (parallelism = {parallelism}, checkpoint_interval = '200ms') AS
INSERT INTO good SELECT seq, 1000 / divisor, CAST(number AS BIGINT) FROM orders WHERE seq % 10 <> 7;
"""


def good(seq):
    return f'{{"seq":{seq},"divisor":{seq % 9 + 1},"number":"{seq}","at":{BASE_MS + seq}}}'.encode()


# Each makes a record of order number `seq` that is no row, or one that cannot be computed; and the stage that says so.
POISONS = {
    "truncated": ("decode", lambda seq: good(seq)[:-2]),
    "cut within a number": ("decode", lambda seq: b'{"seq":'),
    "concatenated": ("decode", lambda seq: good(seq) + good(seq)),
    "something behind": ("decode", lambda seq: good(seq) + b"x"),
    "whitespace": ("decode", lambda seq: b" \n\t "),
    "empty": ("decode", lambda seq: b""),
    "null": ("decode", lambda seq: None),
    "byte order mark": ("decode", lambda seq: b"\xef\xbb\xbf" + good(seq)),
    "invalid UTF-8": ("decode", lambda seq: good(seq).replace(b'"number":"', b'"number":"\xff\xfe')),
    "an array": ("decode", lambda seq: b"[" + good(seq) + b"]"),
    "a string": ("decode", lambda seq: json.dumps(good(seq).decode()).encode()),
    "NaN": ("decode", lambda seq: good(seq).replace(b'"divisor":', b'"divisor":NaN,"x":')),
    "overflow": ("decode", lambda seq: good(seq).replace(b'"divisor":', b'"divisor":1e400,"x":')),
    "another type": ("decode", lambda seq: good(seq).replace(b'"divisor":', b'"divisor":{"a":[1]},"x":')),
    "a bad escape": ("decode", lambda seq: good(seq).replace(b'"number":"', b'"number":"\\x12')),
    "a control character": ("decode", lambda seq: good(seq).replace(b'"number":"', b'"number":"\n')),
    "depth": ("decode", lambda seq: good(seq)[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "binary": ("decode", lambda seq: bytes((seq * 7 + i) % 256 for i in range(200))),
    "no value for NOT NULL": ("constraint", lambda seq: good(seq).replace(b'"seq"', b'"other"')),
    "null in NOT NULL": ("constraint", lambda seq: good(seq).replace(b'"seq":%d' % seq, b'"seq":null')),
    "division by zero": ("expression", lambda seq: good(seq).replace(b'"divisor":%d' % (seq % 9 + 1), b'"divisor":0')),
    "a cast": ("expression", lambda seq: good(seq).replace(b'"number":"', b'"number":"x')),
}
KINDS = list(POISONS)


class Poisoned:
    """Orders of which one in so many is poisoned. What the query filters is no dead letter, unless it is no row at all."""

    def __init__(self, count, seed, percent):
        self.count, self.seed, self.percent = count, seed, percent

    def kind(self, seq):
        dice = ((seq + self.seed) * 2_654_435_761 >> 7) % 100_000
        return KINDS[dice % len(KINDS)] if dice < self.percent * 1000 else None

    def key(self, seq):
        return f"k{seq % 500}"

    def value(self, seq):
        kind = self.kind(seq)
        return POISONS[kind][1](seq) if kind else good(seq)

    def stage(self, seq):
        """Where it fails; `None`: nowhere."""
        kind = self.kind(seq)
        stage = POISONS[kind][0] if kind else None
        return None if stage == "expression" and seq % 10 == 7 else stage

    def good_rows(self):
        return [seq for seq in range(self.count) if self.kind(seq) is None and seq % 10 != 7]


class Scene:
    """The pipeline with its topics, in an installation of its own."""

    def __init__(self, binary, broker, folder, database, orders):
        self.binary, self.broker, self.folder, self.database, self.orders = binary, broker, folder, database, orders
        self.source, self.sink, self.letters = (broker.create_topic(name) for name in ("poisoned", "good", "letters"))
        self.feed = Feed(broker, self.source, orders)
        self.feed.CHUNK = 100
        self.feed.start()
        self.rows = broker.reader(self.sink, lambda m: json.loads(m.value()))
        self.dead = broker.reader(self.letters, record)

    def server(self, env=None):
        return Server(self.binary, self.folder, self.database, env)

    def create(self, server, tables, pipeline):
        names = {"source": self.source, "sink": self.sink, "letters": self.letters}
        server.sql(tables.format(address=self.broker.address, **names))
        server.sql(pipeline)

    def seen(self):
        return len(self.rows.drain()) + len(self.dead.drain())

    def live_and_die(self, deaths, dice):
        """Gives each life its share of the records; answers how many of them made something visible."""
        count, progress = self.orders.count, 0
        for number, death in enumerate(deaths):
            start, end = count * number // len(deaths), count * (number + 1) // len(deaths)
            before = self.seen()
            if death == "kill":
                server = self.server()
                if number % 2:
                    start = (start + end) // 2
                    self.feed.allow(start)
                    wait_until(lambda: self.seen() > before, 60, f"life {number} to make something visible", server.tail)
                feed_for(self.feed, start, end, dice.uniform(0.0, 2.0))
                server.kill()
            else:
                self.feed.allow(end)
                server = self.server({"LAMINAR_CRASH_AT": f"{death}:{1 if death.startswith('recover') else dice.randint(1, 4)}"})
                status = server.wait(60)
                assert status == -signal.SIGABRT, f"did not abort at {death}: status {status}\n{server.tail()}"
            progress += self.seen() > before
        return progress

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
    points = crash_points()
    chosen = points if request.config.getoption("--full") else dice.sample(points, 4)
    deaths = ["kill"] * KILLS + chosen
    dice.shuffle(deaths)
    return deaths


@pytest.mark.parametrize("percent", [1, 50, 100])
def test_every_bad_record_once_and_no_good_row_lost(percent, request, broker, postgres, binary, tmp_path, seed, say):
    dice = random.Random(seed)
    orders = Poisoned(request.config.getoption("--rows") or ROWS, seed, percent)
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), orders)
    deaths = deaths_of(request, dice)
    server = scene.server().wait_until_ready()
    scene.create(server, SQL, PIPELINE.format(parallelism=2))
    server.kill()
    progress = scene.live_and_die(deaths, dice)

    server = scene.server().wait_until_ready()
    scene.feed.finish()
    expected = {seq: stage for seq in range(orders.count) if (stage := orders.stage(seq))}
    good_rows = orders.good_rows()
    assert scene.rows.wait_for(len(good_rows), 60), f"{len(scene.rows.kept)} of {len(good_rows)} rows\n{server.tail()}"
    assert scene.dead.wait_for(len(expected), 60), f"{len(scene.dead.kept)} of {len(expected)} letters\n{server.tail()}"
    letters = check_letters(scene, expected, "orders")
    rows = Counter(row["seq"] for row in scene.rows.drain(quiet=2))
    assert rows == Counter(good_rows), "good rows were lost or repeated"
    say(f"{percent} %: {letters} letters of {len({orders.kind(s) for s in expected})} kinds, {len(good_rows)} rows, "
        f"{len(deaths)} deaths ({progress} lives made something visible), seed {seed}")
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
    scene.live_and_die(deaths_of(request, dice), dice)

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


def rows_of(server, sql):
    answer = server.sql(sql)
    return [dict(zip([column["name"] for column in answer["columns"]], row, strict=True)) for row in answer["rows"]]


def test_letters_are_shown_and_put_back(broker, postgres, binary, tmp_path):
    scene = Scene(binary, broker, tmp_path, new_database("sqlite", postgres, tmp_path), Poisoned(0, 0, 0))
    server = scene.server().wait_until_ready()
    scene.create(server, SQL, PIPELINE.format(parallelism=1))
    producer = broker.producer()
    values = [good(0), b"\xff", good(2), b'{"seq":3', good(4).replace(b'"number":"', b'"number":"x')]
    for number, value in enumerate(values):
        producer.produce(scene.source, value, f"k{number}", partition=0, headers=[("n", str(number))])
    producer.flush(30)
    assert scene.rows.wait_for(2, 60) and scene.dead.wait_for(3, 60), server.tail()

    letters = rows_of(server, "SELECT * FROM system.dead_letters WHERE pipeline_name = 'poisoned' ORDER BY \"offset\"")
    shown = [(row["table_name"], row["topic"], row["offset"], row["stage"], row["code"], row["key"], row["value"]) for row in letters]
    assert shown == [
        ("orders", scene.source, 1, "decode", "bad_data", "k1", "\\xff"),
        ("orders", scene.source, 3, "decode", "bad_data", "k3", '{"seq":3'),
        ("orders", scene.source, 4, "expression", "invalid_value", "k4", values[4].decode()),
    ]
    assert [json.loads(row["headers"]) for row in letters] == [{"n": "1"}, {"n": "3"}, {"n": "4"}]

    ledger = wait_until(lambda: rows_of(server, LEDGER), 30, "a checkpoint's ledger", server.tail)
    source, project, sink = ledger[-3:]
    assert (source["records_read"], source["bad_records"], source["dead_letters"], source["records_out"]) == (5, 2, 3, 3)
    assert (project["records_in"], project["rejected"], project["filtered"], project["records_out"]) == (3, 1, 0, 2)
    assert (sink["table_name"], sink["records_in"], sink["records_out"]) == ("good", 2, 2)
    assert all(row["difference"] == 0 for row in ledger)

    job = rows_of(server, "SELECT id FROM system.jobs")[0]["id"]
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
