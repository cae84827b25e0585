"""Avro through a real schema registry, judged by confluent-kafka: what it writes we read, and what we write it reads, while schemas evolve."""

import datetime
import decimal
import json

from confluent_kafka.schema_registry import Schema
from confluent_kafka.serialization import MessageField, SerializationContext

from orders import wait_until
from registry import rows


def record(fields, name="Order"):
    return {"type": "record", "name": name, "namespace": "shop", "fields": fields}


def field(name, kind, **more):
    return {"name": name, "type": kind, **more}


V1 = record([field("id", "int"), field("customer", "string"), field("gone", ["null", "string"], default=None)])
V2 = record(
    [
        field("id", "long"),
        field("client", "string", aliases=["customer"]),
        field("amount", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, default=""),
        field("tags", {"type": "array", "items": "string"}, default=[]),
        field("note", ["null", "string"], default=None),
    ]
)


def test_python_writes_and_we_read_while_the_schema_evolves(server, registry):
    topic = registry.topic("avro-in")
    registry.write(topic, registry.avro_writer(V1), [{"id": 1, "customer": "ada", "gone": "x"}, {"id": 2, "customer": "bob", "gone": None}])
    registry.client.set_compatibility(f"{topic}-value", "NONE")
    newer = {"id": 1 << 40, "client": "cyd", "amount": decimal.Decimal("12.34"), "tags": ["a", "b"], "note": "hi"}
    registry.write(topic, registry.avro_writer(V2), [newer])
    # No columns: they are those of the newest schema under the subject.
    server.sql(f"CREATE TABLE orders WITH (type = 'source', {registry.options(topic, 'avro')})")
    described = {row[0]: row[1] for row in server.sql("DESCRIBE orders")["rows"]}
    assert described["id"] == "BIGINT" and described["client"] == "TEXT" and described["amount"] == "DECIMAL(10, 2)"
    server.sql("CREATE PIPELINE seen AS SELECT id, client, amount, cardinality(tags) AS tags, note FROM orders")
    found = rows(server, "seen", 3)
    assert [row[:2] for row in found] == [[1, "ada"], [2, "bob"], [1 << 40, "cyd"]]
    assert [decimal.Decimal(str(row[2])) for row in found] == [0, 0, decimal.Decimal("12.34")]
    assert [row[4] for row in found] == [None, None, "hi"]
    # A field that was added while the pipeline runs changes nothing for it.
    third = record(V2["fields"] + [field("later", "string", default="")])
    registry.write(topic, registry.avro_writer(third), [{**newer, "id": 7, "later": "z"}])
    assert [row[0] for row in rows(server, "seen", 4)] == [1, 2, 7, 1 << 40]


def test_we_write_and_python_reads(server, registry):
    source, sink = registry.topic("avro-from"), registry.topic("avro-to")
    at = datetime.datetime(2024, 1, 31, 23, 59, 59, 123000, tzinfo=datetime.timezone.utc)
    schema = record([field("id", "long"), field("at", {"type": "long", "logicalType": "timestamp-millis"}), field("total", "double")])
    registry.write(source, registry.avro_writer(schema), [{"id": i, "at": at, "total": i / 2} for i in range(100)])
    server.sql(f"CREATE TABLE orders (id BIGINT, at TIMESTAMP, total DOUBLE) WITH (type = 'source', {registry.options(source, 'avro')})")
    server.sql(f"CREATE TABLE bills (id BIGINT, at TIMESTAMP, cents DECIMAL(12, 2), note TEXT) WITH (type = 'sink', {registry.options(sink, 'avro')})")
    query = "SELECT id, at, CAST(total AS DECIMAL(12, 2)), CASE WHEN id % 2 = 0 THEN 'even' END FROM orders"
    server.sql(f"CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO bills {query}")
    found = registry.read(sink, registry.avro_reader(), 100)
    assert found[3] == {"id": 3, "at": at, "cents": decimal.Decimal("1.50"), "note": None}
    assert found[4]["note"] == "even"
    assert sorted(record["id"] for record in found) == list(range(100))
    # A reader with a schema of its own: a column renamed, another left out, one promoted, one added.
    fields = [
        field("number", ["null", "double"], aliases=["id"], default=None),
        field("note", ["null", "string"], default=None),
        field("kind", "string", default="bill"),
    ]
    reader = {"type": "record", "name": "bills", "fields": fields}
    assert registry.read(sink, registry.avro_reader(reader), 5)[4] == {"number": 4.0, "note": "even", "kind": "bill"}


def test_keys_are_records_with_a_schema_of_their_own(server, registry):
    people, copies = registry.topic("people"), registry.topic("copies")
    writer = registry.avro_writer(record([field("id", "long")], "Key"))

    def put(id, row):
        producer = registry.broker.producer()
        key = writer({"id": id}, SerializationContext(people, MessageField.KEY))
        producer.produce(people, key=key, value=row and json.dumps(row))
        assert producer.flush(30) == 0

    def taken(count):
        """Of the copies: each key as a reader of its schema sees it, and its row."""
        read = registry.avro_reader()
        context = SerializationContext(copies, MessageField.KEY)
        consumer = registry.broker.reader(copies, lambda m: (read(m.key(), context), m.value() and json.loads(m.value())))
        assert consumer.wait_for(count, 60), consumer.kept
        consumer.close()
        return consumer.kept

    columns = "(id BIGINT PRIMARY KEY, name TEXT)"
    more = {"key.format": "avro"}
    options = registry.options(people, "json", upsert="true", **more)
    server.sql(f"CREATE TABLE people {columns} WITH (type = 'source', {options})")
    server.sql(f"CREATE TABLE copies {columns} WITH (type = 'sink', {registry.options(copies, 'json', **more)})")
    server.sql("CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO copies SELECT id, name FROM people")
    put(1, {"id": 1, "name": "ada"})
    put(2, {"id": 2, "name": "bob"})
    rows_of_keys = sorted(taken(2), key=lambda kept: kept[0]["id"])
    assert rows_of_keys == [({"id": 1}, {"id": 1, "name": "ada"}), ({"id": 2}, {"id": 2, "name": "bob"})]
    # A tombstone has nothing but its key.
    put(1, None)
    assert taken(3)[2] == ({"id": 1}, None)
    subjects = registry.subjects()
    assert f"{copies}-key" in subjects and f"{copies}-value" not in subjects


def test_a_schema_that_the_registry_refuses_is_explained(server, registry):
    source, sink = registry.topic("avro-from"), registry.topic("avro-to")
    registry.client.register_schema(f"{sink}-value", Schema(json.dumps(record([field("other", "int")], "out")), "AVRO"))
    registry.client.set_compatibility(f"{sink}-value", "BACKWARD")
    registry.write(source, registry.avro_writer(record([field("id", "long")])), [{"id": 1}])
    server.sql(f"CREATE TABLE orders (id BIGINT) WITH (type = 'source', {registry.options(source, 'avro')})")
    server.sql(f"CREATE TABLE out (id BIGINT NOT NULL) WITH (type = 'sink', {registry.options(sink, 'avro')})")
    server.sql("CREATE PIPELINE copy AS INSERT INTO out SELECT coalesce(id, 0) FROM orders")
    query = "SELECT failure_code, failure_message FROM system.jobs WHERE failure_code IS NOT NULL"
    [[code, error]] = wait_until(lambda: server.sql(query)["rows"], 60, "the failure", lambda: server.sql("SELECT * FROM system.jobs"))
    assert code == "incompatible_schema" and "/fields/0" in error, error


def test_secrets_of_the_registry_are_not_shown(server, registry):
    topic = registry.topic("avro-secret")
    server.sql("CREATE SECRET registry_secret AS 'do-not-show'")
    more = {"schema_registry.api_key": "key", "schema_registry.api_secret": "${secret:registry_secret}"}
    server.sql(f"CREATE TABLE a (id BIGINT) WITH (type = 'source', {registry.options(topic, 'avro', **more)})")
    more["schema_registry.api_secret"] = "in-the-clear"
    server.sql(f"CREATE TABLE b (id BIGINT) WITH (type = 'source', {registry.options(topic, 'avro', **more)})")
    shown = [server.sql(f"SHOW CREATE TABLE {name}")["rows"] for name in "ab"] + [server.sql("SELECT * FROM system.tables")["rows"]]
    for text in [json.dumps(shown), server.log.read_text()]:
        assert "do-not-show" not in text and "in-the-clear" not in text, text
