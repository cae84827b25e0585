"""The SQL of the Kafka source's specification, typed as it is written there against the real broker: only the brokers'
addresses differ.

The statements are those of `crates/laminar-planner/tests/seed.sql`: a block for each heading of the page, and named by it.
What comes out is judged by a reader that shares no code with the engine.
"""

import json
import re
import subprocess
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from laminar import Server, ask
from orders import millis, wait_until

SEED = Path(__file__).parents[4] / "crates/laminar-planner/tests/seed.sql"
TOPICS = ("events", "json-events", "public-events", "raw-data", "high-volume-events", "orders", "users")
SECRETS = ("kafka_password", "key_password", "sr_secret", "confluent_key", "confluent_secret")

# Of each block, what its statements answer: a command's tag (of a query, its columns), or code, place and hint.
ANSWERS = {
    "Connection Configuration": ["CREATE CONNECTION"],
    "No Authentication": ["CREATE CONNECTION"],
    "SASL/PLAIN": ["CREATE CONNECTION"],
    "SASL/SCRAM": ["CREATE CONNECTION"],
    "AWS MSK IAM": ["CREATE CONNECTION"],
    "SSL/TLS": ["CREATE CONNECTION"],
    "JSON Format": ["CREATE CONNECTION", "CREATE TABLE"],
    "Avro Format": ["CREATE CONNECTION"],
    "Confluent Schema Registry": ["CREATE CONNECTION"],
    "Raw Format": ["CREATE CONNECTION", "CREATE TABLE"],
    "Metadata Fields": ["CREATE TABLE", "id, message, _kafka_partition, _kafka_offset, _kafka_timestamp"],
    "Automatic Group Management": ["CREATE CONNECTION"],
    "Manual Group Assignment": ["CREATE CONNECTION"],
    "Multiple Consumers": ["CREATE CONNECTION", "CREATE PIPELINE", "CREATE PIPELINE"],
    "Start from Beginning": ["CREATE CONNECTION"],
    "Start from End": ["CREATE CONNECTION"],
    "Start from Timestamp": ["CREATE CONNECTION"],
    "Commit Strategies": ["CREATE CONNECTION"],
    "Custom Kafka Properties": ["CREATE CONNECTION"],
    "Multiple Topics": ["CREATE CONNECTION", "CREATE CONNECTION"],
    "Dead Letter Queue": ["CREATE CONNECTION"],
    "Skip Bad Records": ["CREATE CONNECTION"],
    "Consumer Lag Metrics": ["_kafka_partition, latest_offset, messages_processed, latest_message_time"],
    "Connection Health": [
        "id, name, connector, options, used_by, created_at, updated_at, status, last_error, messages_in, messages_out",
        "connection, group_id, state, protocol, members, member_ids, topic, partition, committed_offset, end_offset, lag, error",
    ],
    "Connection Issues": ["stage, ok, message", "connection, broker_id, host, port, error"],
    "Performance Issues": ["minute, messages, lag_seconds"],
}


class Seed:
    """The page's statements, and a server to type them into."""

    def __init__(self, binary, broker, folder):
        self.binary = binary
        text = re.sub(r"(bootstrap_servers =) '.*?'", rf"\1 '{broker.address}'", SEED.read_text())
        blocks = [block.split("\n", 1) for block in text.split("-- # ")[1:]]
        self.blocks = {heading: re.findall(r".*?;\n", sql, re.S) for heading, sql in blocks}
        # The page's certificates are in /certs: its options may name any file.
        server = Server(binary, folder, f"sqlite:{folder}/metadata.db", {"LAMINAR_FILES_DIR": "/"})
        self.server = server.wait_until_ready()
        for name in SECRETS:
            self.sql(f"CREATE SECRET {name} AS 'sesame'")

    def sql(self, text):
        return self.server.sql(text)

    def rows(self, query):
        return self.server.rows(query)

    def type(self, *headings):
        """Sends these blocks; all their statements must work."""
        for heading in headings:
            self.sql("".join(self.blocks[heading]))

    def command(self, statement):
        """Types the statement into `laminar sql`; its exit status, and what it prints where."""
        url = f"http://127.0.0.1:{self.server.port}"
        command = [self.binary, "sql", "--url", url, "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def count(self, relation):
        return self.sql(f"SELECT count(*) FROM {relation}")["rows"][0][0]

    def wait_for(self, relation, count):
        wait_until(lambda: self.count(relation) >= count, 30, f"{count} rows of {relation}", self.server.tail)


def fill(broker, topic, records, partitions=2):
    """Makes the topic anew with these (keywords of `produce`)."""
    broker.create(topic, partitions)
    append(broker, topic, records)


def append(broker, topic, records):
    producer = broker.producer()
    for record in records:
        value = record["value"]
        value = json.dumps(value) if isinstance(value, dict) else value
        producer.produce(topic, **{**record, "value": value})
    assert producer.flush(30) == 0


def test_each_statement_typed_into_the_command_line_gives_what_the_page_says(broker, binary, tmp_path):
    for topic in TOPICS:
        broker.create(topic)
    seed = Seed(binary, broker, tmp_path)
    assert list(seed.blocks) == list(ANSWERS)
    failures = []
    for heading, statements in seed.blocks.items():
        for statement, expected in zip(statements, ANSWERS[heading], strict=True):
            status, printed, complaint = seed.command(statement)
            got = answer(status, printed, complaint)
            if not fits(expected, got):
                failures.append(f"{heading}: expected {expected}, got {got}\n{complaint}")
    assert not failures, "\n".join(failures)
    # What was created is told alike by SQL and REST.
    text = "".join(statement for statements in seed.blocks.values() for statement in statements)
    created = set(re.findall(r"CREATE CONNECTION (\w+)", text))
    assert {row["name"] for row in seed.rows("SELECT name FROM system.connections")} == created
    assert {item["name"] for item in ask(seed.server.port, "/api/v1/connection_profiles?limit=100")["data"]} == created
    tables = {row["name"] for row in seed.rows("SELECT name FROM system.tables")}
    assert tables == {"events", "raw_events", "events_with_metadata"}
    assert Counter(row["state"] for row in seed.rows("SELECT state FROM system.pipelines")) == {"running": 2}


def answer(status, printed, complaint):
    """What `laminar sql` said, as `ANSWERS` writes it."""
    if status == 0:
        return ", ".join(name.strip() for name in printed.splitlines()[0].split("|"))
    code = re.search(r"error\[(\w+)\]", complaint)[1]
    line, column = re.search(r"--> line (\d+), column (\d+)", complaint).groups()
    return f"{code} {line}:{column} {re.search(r'= hint: (.*)', complaint)[1]}"


def fits(expected, got):
    """… stands for any rest."""
    return got.startswith(expected[:-1]) if expected.endswith("…") else got == expected


def test_two_pipelines_have_each_row_once_by_its_hash(broker, binary, tmp_path):
    def event(number):
        moment = f"2026-01-02T03:04:05.{1 + number % 999:03}"
        return {"id": number, "name": f"n{number}", "timestamp": moment, "metadata": {"n": [number, {"deep": None}]}}

    numbers = [*range(-10, 990), 2**63 - 1]
    fill(broker, "json-events", [{"value": event(n), "key": str(n)} for n in numbers], 4)
    append(broker, "json-events", [{"value": {"name": "nobody's: hash(NULL) is NULL"}}] * 10)
    broker.create("high-volume-events")
    seed = Seed(binary, broker, tmp_path)
    seed.type("JSON Format", "Multiple Consumers")

    def expected(wanted, remainder):
        return sorted((event(n) for n in wanted if hashed(n) % 2 == remainder), key=lambda row: row["id"])

    seen = []
    for name, remainder in (("processor_1", 0), ("processor_2", 1)):
        seed.wait_for(name, len(expected(numbers, remainder)))
        rows = sorted(seed.rows(f"SELECT * FROM {name}"), key=lambda row: row["id"])
        assert rows == expected(numbers, remainder)
        seen += [row["id"] for row in rows]
    assert sorted(seen) == numbers  # together: none lost, none twice

    later = list(range(5000, 5100))
    with Subscription(seed.server, "processor_2") as subscription:
        append(broker, "json-events", [{"value": event(n), "key": str(n)} for n in later])
        wanted = expected(later, 1)
        rows = sorted(subscription.take(len(wanted)), key=lambda row: row["id"])
    assert rows == wanted


def hashed(number):
    """`hash()` of an integer: the finaliser of SplitMix64, without the sign."""
    mask = 2**64 - 1
    z = (number + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return (z ^ z >> 31) & mask >> 1


class Subscription:
    """The rows of `SUBSCRIBE TO` a pipeline, from when it is entered."""

    def __init__(self, server, pipeline):
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        body = json.dumps({"query": f"SUBSCRIBE TO {pipeline}"}).encode()
        self.request = urllib.request.Request(f"http://127.0.0.1:{server.port}/api/v1/sql", body, headers)

    def __enter__(self):
        self.answer = urllib.request.urlopen(self.request, timeout=30)
        self.names = [column["name"] for column in self.event("columns")["columns"]]
        return self

    def __exit__(self, *_):
        self.answer.close()

    def event(self, kind):
        """The data of the next event, which must be of this kind."""
        lines = {}
        while "data" not in lines:
            line = self.answer.readline()
            assert line, "the stream ended"
            name, _, value = line.decode().strip().partition(": ")
            lines[name] = value
        assert lines["event"] == kind, lines
        return json.loads(lines["data"])

    def take(self, count):
        rows = []
        while len(rows) < count:
            rows += [dict(zip(self.names, row, strict=True)) for row in self.event("rows")["rows"]]
        return rows


def test_metadata_is_what_another_reader_sees(broker, binary, tmp_path):
    now = int(time.time() * 1000)
    hour = 3_600_000
    records = [
        {
            "value": {"id": n, "message": f"message {n}"},
            "partition": n % 3,
            "timestamp": now - hour * 2 if n % 5 == 0 else now - n,
            "key": [None, b"text", b"\x00\xff", b""][n % 4],
            "headers": [[], [("trace", "a b"), ("n", str(n))]][n % 2],
        }
        for n in range(100)
    ]
    fill(broker, "events", records, 3)
    seed = Seed(binary, broker, tmp_path)
    seed.type("Connection Configuration")
    create, query = seed.blocks["Metadata Fields"]
    seed.sql(create)

    expected = broker.reader("events", seen_row).drain()
    assert len(expected) == len(records)
    rows = seed.rows("SELECT * FROM events_with_metadata")
    assert in_order(map(comparable, rows)) == in_order(expected)

    of_first = [row for row in expected if row["_kafka_partition"] == 0]
    names = ("id", "message", "_kafka_partition", "_kafka_offset", "_kafka_timestamp")
    rows = [comparable(row) for row in seed.rows(query)]
    assert in_order(rows) == in_order({name: row[name] for name in names} for row in of_first)

    # A preview has an end, so a query of it may be any.
    lag = {row["_kafka_partition"]: row for row in seed.rows(seed.blocks["Consumer Lag Metrics"][0])}
    assert sorted(lag) == [0, 1, 2]
    for partition, row in lag.items():
        own = [seen for seen in expected if seen["_kafka_partition"] == partition]
        assert row["latest_offset"] == max(seen["_kafka_offset"] for seen in own)
        assert row["messages_processed"] == len(own)
        assert millis(row["latest_message_time"]) == max(seen["_kafka_timestamp"] for seen in own)
    rates = seed.rows(seed.blocks["Performance Issues"][0])
    assert sum(row["messages"] for row in rates) == sum(1 for n in range(100) if n % 5)
    assert all(0 <= row["lag_seconds"] < 3600 for row in rates)
    assert [row["minute"] for row in rates] == sorted((row["minute"] for row in rates), reverse=True)

    [connection] = seed.rows(seed.blocks["Connection Health"][0])
    assert (connection["name"], connection["connector"]) == ("kafka_source", "kafka")
    assert connection["used_by"] == "events_with_metadata"
    assert json.loads(connection["options"])["group_id"] == "laminar-consumer-group"
    stages = seed.rows(seed.blocks["Connection Issues"][0])
    assert all(stage["ok"] for stage in stages), stages
    told = {stage["stage"]: stage["message"] for stage in stages}
    assert told["topic"] == "events has 3 partitions" and "a JSON object of" in told["sample"], told


def seen_row(message):
    """A message as its row should be, times in milliseconds."""
    key, headers = message.key(), message.headers()
    return {
        **json.loads(message.value()),
        "_kafka_topic": message.topic(),
        "_kafka_partition": message.partition(),
        "_kafka_offset": message.offset(),
        "_kafka_timestamp": message.timestamp()[1],
        "_kafka_key": None if key is None else key.hex(),
        "_kafka_headers": {name: value.decode() for name, value in headers or []},
    }


def comparable(row):
    return {**row, "_kafka_timestamp": millis(row["_kafka_timestamp"])}


def in_order(rows):
    return sorted(rows, key=lambda row: (row["_kafka_partition"], row["_kafka_offset"]))


def test_raw_records_are_rows_of_bytes(broker, binary, tmp_path):
    records = [{"value": bytes([n, 0, 255]), "key": b"k%d" % n, "partition": n % 2} for n in range(10)]
    fill(broker, "raw-data", [*records, {"value": None, "key": b"tombstone", "partition": 0}])
    seed = Seed(binary, broker, tmp_path)
    seed.type("Raw Format")
    rows = seed.rows("SELECT * FROM raw_events")
    times = {(row["partition"], row["offset"]): millis(row.pop("timestamp")) for row in rows}
    assert times == dict(broker.reader("raw-data", lambda m: ((m.partition(), m.offset()), m.timestamp()[1])).drain())
    expected = broker.reader("raw-data", raw_row).drain()
    assert sorted(rows, key=lambda row: row["key"]) == sorted(expected, key=lambda row: row["key"])


def raw_row(message):
    value = message.value()
    value = None if value is None else value.hex()
    return {"key": message.key().hex(), "value": value, "partition": message.partition(), "offset": message.offset()}


# Connection → which of the events a new pipeline over it reads: old ones (of 2023), new ones (of 2025), late ones, which
# come when it runs.
STARTS = {
    "kafka_from_start": ("old", "new", "late"),
    "kafka_from_end": ("late",),
    "kafka_from_timestamp": ("new", "late"),
    "kafka_commit": ("old", "new", "late"),
    "kafka_advanced": ("old", "new", "late"),
    "kafka_skip_bad": ("old", "new", "late"),
    "kafka_auto_group": ("old", "new", "late"),
    "kafka_custom_group": ("old", "new", "late"),
}
START_BLOCKS = (
    "Start from Beginning", "Start from End", "Start from Timestamp", "Commit Strategies", "Custom Kafka Properties",
    "Skip Bad Records", "Automatic Group Management", "Manual Group Assignment",
)  # fmt: skip


def test_pipelines_start_where_their_connection_says_and_report_to_its_group(broker, binary, tmp_path):
    def events(age, year):
        moment = int(datetime(year, 6, 1, tzinfo=timezone.utc).timestamp() * 1000)
        return [{"value": {"age": age, "id": n}, "partition": n % 2, "timestamp": moment + n} for n in range(50)]

    fill(broker, "events", events("old", 2023) + events("new", 2025))
    seed = Seed(binary, broker, tmp_path)
    seed.type(*START_BLOCKS)
    for connection in STARTS:
        seed.sql(
            f"CREATE TABLE of_{connection} (age TEXT, id INT) WITH (connector = '{connection}');"
            f"CREATE PIPELINE p_{connection} WITH (checkpoint_interval = '200ms') AS SELECT * FROM of_{connection}"
        )
    assert seed.count("of_kafka_from_end") == 0
    append(broker, "events", events("late", 2025))
    for connection, ages in STARTS.items():
        seed.wait_for(f"p_{connection}", 50 * len(ages))
        read = Counter((row["age"], row["id"]) for row in seed.rows(f"SELECT * FROM p_{connection}"))
        assert read == Counter((age, n) for age in ages for n in range(50)), connection

    ends = broker.ends("events")
    pipeline = seed.rows("SELECT id FROM system.pipelines WHERE name = 'p_kafka_auto_group'")[0]["id"]
    for group in ("my-application-group", f"laminar-{pipeline}"):
        wait_until(lambda group=group: broker.group_offsets(group, "events") == ends, 30, f"the offsets of {group}")


def test_a_group_that_two_pipelines_name_takes_no_row_from_either(broker, binary, tmp_path):
    fill(broker, "high-volume-events", [{"value": {"id": n}, "partition": n % 4} for n in range(100)], 4)
    seed = Seed(binary, broker, tmp_path)
    seed.sql(seed.blocks["Multiple Consumers"][0])
    seed.sql("CREATE TABLE many (id INT) WITH (connector = 'kafka_shared')")
    notices = [seed.sql(f"CREATE PIPELINE {name} AS SELECT * FROM many")["notices"] for name in ("one", "two")]
    assert notices[0] == []
    assert notices[1][0]["code"] == "shared_group" and "every partition" in notices[1][0]["message"]
    for name in ("one", "two"):
        seed.wait_for(name, 100)
        assert sorted(row["id"] for row in seed.rows(f"SELECT * FROM {name}")) == list(range(100))


def test_a_list_of_topics_is_one_table(broker, binary, tmp_path):
    for topic in ("events", "orders", "users"):
        fill(broker, topic, [{"value": {"id": n}} for n in range(10)])
    fill(broker, "public-events", [{"value": {"id": n}} for n in range(7)])
    seed = Seed(binary, broker, tmp_path)
    seed.type("No Authentication")
    seed.sql(seed.blocks["Multiple Topics"][1])
    columns = "id INT, topic TEXT METADATA FROM 'topic'"
    seed.sql(f"CREATE TABLE listed ({columns}) WITH (connector = 'kafka_list')")
    counts = seed.rows("SELECT topic, count(DISTINCT id) AS ids, count(*) AS rows FROM listed GROUP BY topic ORDER BY topic")
    assert counts == [{"topic": topic, "ids": 10, "rows": 10} for topic in ("events", "orders", "users")]
    seed.sql("CREATE TABLE public (id INT) WITH (connector = 'kafka_public')")
    assert seed.count("public") == 7


def test_bad_records_are_skipped_and_counted_up_to_the_limit(broker, binary, tmp_path):
    bad = [b"{", b"", b'{"id": "x"}', b"[1]", b"\xff"]
    records = [{"value": {"id": n}} for n in range(20)]
    fill(broker, "events", [*records[:10], *({"value": value} for value in bad), *records[10:]], 1)
    seed = Seed(binary, broker, tmp_path)
    seed.type("Skip Bad Records", "Start from Beginning")
    seed.sql("CREATE TABLE lenient (id INT) WITH (connector = 'kafka_skip_bad')")
    seed.sql("CREATE PIPELINE skipping AS SELECT * FROM lenient")
    seed.wait_for("skipping", 20)
    assert sorted(row["id"] for row in seed.rows("SELECT * FROM skipping")) == list(range(20))
    assert seed.rows("SELECT errors FROM system.metrics WHERE kind = 'source'") == [{"errors": len(bad)}]

    # Where nothing is said, the first bad record stops the pipeline, which says where it is.
    seed.sql("CREATE TABLE strict (id INT) WITH (connector = 'kafka_from_start')")
    seed.sql("CREATE PIPELINE stopping AS SELECT * FROM strict")
    assert "events/0 offset 10" in failure(seed, "stopping")
    # Of 200 at once, a batch has more than the ten that it may have.
    append(broker, "events", [{"value": b"{"}] * 200)
    assert "events/0 position " in failure(seed, "skipping")


def failure(seed, pipeline):
    """Waits until the pipeline has failed of bad data; what it says."""
    failed = f"WHERE pipeline_name = '{pipeline}' AND state = 'Failed'"
    query = f"SELECT failure_code, failure_message FROM system.jobs {failed}"
    [job] = wait_until(lambda: seed.rows(query), 30, f"{pipeline} to fail")
    assert job["failure_code"] == "bad_data"
    return job["failure_message"]


# Our broker offers no login, and the page's certificates are not here.
TABLE_ERRORS = {"kafka_scram": "tls_failed", "kafka_ssl": "invalid_option"}


def test_a_login_that_the_broker_does_not_offer_is_told_at_the_table_not_at_the_connection(broker, binary, tmp_path):
    broker.create("events")
    seed = Seed(binary, broker, tmp_path)
    seed.type("SASL/PLAIN", "SASL/SCRAM", "SSL/TLS")
    with ThreadPoolExecutor() as together:  # each waits some seconds for the broker
        test = together.submit(seed.rows, "SELECT test_connection('kafka_sasl')")
        create = "CREATE TABLE t (id INT) WITH (connector = '{}')"
        tables = {code: together.submit(seed.command, create.format(name)) for name, code in TABLE_ERRORS.items()}
    stages = [(stage["stage"], stage["ok"]) for stage in test.result()]
    assert stages == [("options", True), ("dns", True), ("tcp", True), ("tls", False)]
    for code, table in tables.items():
        status, _, complaint = table.result()
        assert status == 1 and f"error[{code}]" in complaint and "line 1, column 14" in complaint, complaint
        assert "sesame" not in complaint
    assert seed.rows("SELECT * FROM system.tables") == []
