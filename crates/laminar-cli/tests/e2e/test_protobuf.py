"""Protobuf and JSON Schema through a real schema registry, judged by confluent-kafka: what it writes we read, and what we write it reads."""

import datetime
import json

from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer

from messages import Field, field, messages, repeated
from orders import wait_until
from registry import rows


def test_python_writes_and_we_read_while_the_schema_evolves(server, registry):
    topic = registry.topic("protobuf-in")
    line = [field("sku", 1, Field.TYPE_STRING), field("count", 2, Field.TYPE_SINT32)]
    v1 = messages(
        "v1.proto",
        "shop",
        Other=[field("x", 1, Field.TYPE_INT32)],
        Line=line,
        Order=[
            field("id", 1, Field.TYPE_INT32),
            field("customer", 2, Field.TYPE_STRING),
            field("gone", 3, Field.TYPE_STRING),
            repeated("lines", 4, Field.TYPE_MESSAGE, type_name=".shop.Line"),
        ],
    )
    v2 = messages(
        "v2.proto",
        "shop",
        ["google/protobuf/timestamp.proto"],
        Other=[field("x", 1, Field.TYPE_INT32)],
        Line=line,
        Order=[
            field("id", 1, Field.TYPE_INT64),
            field("client", 2, Field.TYPE_STRING),
            repeated("lines", 4, Field.TYPE_MESSAGE, type_name=".shop.Line"),
            field("note", 5, Field.TYPE_STRING, optional=True),
            field("at", 6, Field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp"),
        ],
    )
    lines = [v1["Line"](sku="a", count=-2), v1["Line"](sku="b", count=3)]
    registry.write(topic, registry.protobuf_writer(v1["Order"]), [v1["Order"](id=1, customer="ada", gone="x", lines=lines)])
    registry.client.set_compatibility(f"{topic}-value", "NONE")
    newer = v2["Order"](id=1 << 40, client="cyd", note="hi")
    newer.at.FromDatetime(datetime.datetime(2024, 1, 31, 12, 0, 0))
    # A record of another message of the file is no order.
    registry.write(topic, registry.protobuf_writer(v2["Order"]), [newer])
    registry.write(topic, registry.protobuf_writer(v2["Other"]), [v2["Other"](x=1), b"poison", b"\0\x7f\xff\xff\xff\0"])
    server.sql(
        "CREATE TABLE orders (id BIGINT, client TEXT, lines ARRAY<STRUCT<sku TEXT, count INT>>, note TEXT, at TIMESTAMP) "
        f"WITH (type = 'source', bad_data = 'skip', {registry.options(topic, 'protobuf', **{'protobuf.message': 'shop.Order'})})"
    )
    server.sql("CREATE PIPELINE seen AS SELECT id, client, cardinality(lines) AS lines, note, at FROM orders")
    found = rows(server, "seen", 2)
    assert [row[:4] for row in found] == [[1, "ada", 2, None], [1 << 40, "cyd", 0, "hi"]]
    assert found[0][4] is None and "2024-01-31T12:00:00" in str(found[1][4])
    # Nothing of the other three got in.
    registry.write(topic, registry.protobuf_writer(v2["Order"]), [v2["Order"](id=7, client="dan")])
    assert [row[0] for row in rows(server, "seen", 3)] == [1, 7, 1 << 40]


def test_we_write_and_python_reads(server, registry):
    source, sink = registry.topic("protobuf-from"), registry.topic("protobuf-to")
    simple = messages("s.proto", "in", Row=[field("id", 1, Field.TYPE_INT64), field("total", 2, Field.TYPE_DOUBLE)])
    registry.write(source, registry.protobuf_writer(simple["Row"]), [simple["Row"](id=i, total=i / 2) for i in range(100)])
    # No columns: they are those of the schema.
    server.sql(f"CREATE TABLE orders WITH (type = 'source', {registry.options(source, 'protobuf')})")
    described = {row[0]: row[1] for row in server.sql("DESCRIBE orders")["rows"]}
    assert described["id"] == "BIGINT" and described["total"] == "DOUBLE"
    more = {"protobuf.message": "shop.Bill"}
    server.sql(
        f"CREATE TABLE bills (id BIGINT NOT NULL, note TEXT, tags TEXT[], total DOUBLE) WITH (type = 'sink', {registry.options(sink, 'protobuf', **more)})"
    )
    query = "SELECT coalesce(id, 0), CASE WHEN id % 2 = 0 THEN 'even' END, ['x', 'y'], total FROM orders"
    server.sql(f"CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO bills {query}")
    kinds = messages(
        "b.proto",
        "shop",
        Bill=[
            field("id", 1, Field.TYPE_INT64),
            field("note", 2, Field.TYPE_STRING, optional=True),
            repeated("tags", 3, Field.TYPE_STRING),
            field("total", 4, Field.TYPE_DOUBLE, optional=True),
        ],
    )
    deserializer = ProtobufDeserializer(kinds["Bill"], {"use.deprecated.format": False})
    found = registry.read(sink, deserializer, 100)
    assert sorted(bill.id for bill in found) == list(range(100))
    four = next(bill for bill in found if bill.id == 4)
    assert (four.note, list(four.tags), four.total) == ("even", ["x", "y"], 2.0)
    three = next(bill for bill in found if bill.id == 3)
    assert not three.HasField("note") and three.total == 1.5
    text = registry.client.get_latest_version(f"{sink}-value").schema.schema_str
    assert "message Bill" in text, text


def test_json_schema_both_ways(server, registry):
    source, sink = registry.topic("json-from"), registry.topic("json-to")
    schema = json.dumps(
        {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Row", "type": "object", "properties": {"id": {"type": "integer"}}}
    )
    registry.write(source, JSONSerializer(schema, registry.client), [{"id": i} for i in range(10)])
    registry.write(source, None, [b'{"id":1}', b"\0\x7f\xff\xff\xff{}"])
    registry.write(source, JSONSerializer(schema, registry.client), [{"id": 10}])
    options = registry.options(source, "json", **{"json.confluent_schema_registry": "true"})
    server.sql(f"CREATE TABLE rows_in (id BIGINT) WITH (type = 'source', bad_data = 'skip', {options})")
    server.sql(f"CREATE TABLE rows_out (id BIGINT, twice BIGINT) WITH (type = 'sink', {registry.options(sink, 'confluent_json')})")
    server.sql("CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO rows_out SELECT id, 2 * id FROM rows_in")
    wait_until(lambda: f"{sink}-value" in registry.subjects(), 60, "our schema", registry.subjects)
    text = registry.client.get_latest_version(f"{sink}-value").schema.schema_str
    records = registry.read(sink, JSONDeserializer(text), 11)
    assert records == [{"id": i, "twice": 2 * i} for i in range(11)]
