"""Records framed as AWS Glue does, with moto as the registry: what Python frames by hand we read, and what we write Python takes apart."""

import json
import uuid

import pytest

from glue import CREDENTIALS, PLAIN, ZLIB, Glue, avro, framed, from_avro, unframed
from laminar import Server
from orders import wait_until
from registry import rows


def record(*fields):
    return {"type": "record", "name": "Order", "namespace": "shop", "fields": list(fields)}


V1 = record({"name": "id", "type": "int"}, {"name": "customer", "type": "string"})
V2 = record(
    {"name": "id", "type": "long"},
    {"name": "client", "type": "string", "aliases": ["customer"]},
    {"name": "note", "type": ["null", "string"], "default": None},
)


@pytest.fixture
def glue(tmp_path, broker):
    glue = Glue(tmp_path, broker).start()
    yield glue
    glue.kill()


@pytest.fixture
def server(binary, tmp_path):
    """One that has AWS credentials."""
    return Server(binary, tmp_path / "server", f"sqlite:{tmp_path}/laminar.db", CREDENTIALS).wait_until_ready()


def test_python_frames_and_we_read(server, glue):
    topic, sink = glue.topic("glue-in"), glue.topic("glue-out")
    first = glue.create(topic, "AVRO", json.dumps(V1))
    second = glue.add(topic, json.dumps(V2))
    newer = avro(V2, {"id": 1 << 40, "client": "cyd", "note": "hi"})
    damaged = uuid.UUID(int=second.int ^ 1)
    values = [
        framed(first, avro(V1, {"id": 1, "customer": "ada"})),
        framed(first, avro(V1, {"id": 2, "customer": "bob"}), ZLIB),
        framed(damaged, newer),
        framed(second, newer, ZLIB),
        framed(second, newer)[:17],
        b"\x00\x00\x00\x00\x01" + newer,
    ]
    glue.write(topic, values)
    letters = f"{topic}-dlq"
    more = {"bad_data": "dlq", "dlq_topic": letters}
    # No columns: they are those of the newest version of the schema named after the topic.
    server.sql(f"CREATE TABLE orders WITH (type = 'source', {glue.options(topic, 'avro', **more)})")
    described = {row[0]: row[1] for row in server.sql("DESCRIBE orders")["rows"]}
    assert described == {**described, "id": "BIGINT", "client": "TEXT", "note": "TEXT"}
    options = f"connector = 'kafka', bootstrap_servers = '{glue.broker.address}', topic = '{sink}', format = 'json'"
    server.sql(f"CREATE TABLE out (id BIGINT, client TEXT, note TEXT) WITH (type = 'sink', {options})")
    server.sql("CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO out SELECT id, client, note FROM orders")
    expected = [{"id": 1, "client": "ada", "note": None}, {"id": 2, "client": "bob", "note": None}, {"id": 1 << 40, "client": "cyd", "note": "hi"}]
    assert [json.loads(value) for _, value in glue.read(sink, 3)] == expected
    wait_until(lambda: letters in glue.broker.topics(), 60, "the topic of the dead letters")
    assert [value for _, value in glue.read(letters, 3)] == [values[2], values[4], values[5]]


@pytest.mark.parametrize(("compression", "byte"), [("none", PLAIN), ("zlib", ZLIB)])
def test_we_frame_and_python_reads(server, glue, compression, byte):
    source, sink = glue.topic("glue-from"), glue.topic("glue-to")
    version = glue.create(source, "AVRO", json.dumps(V1))
    glue.write(source, [framed(version, avro(V1, {"id": i, "customer": f"c{i}"})) for i in range(50)])
    more = {"schema_registry.compression": compression}
    server.sql(f"CREATE TABLE orders (id BIGINT, customer TEXT) WITH (type = 'source', {glue.options(source, 'avro')})")
    server.sql(f"CREATE TABLE bills (id BIGINT, name TEXT) WITH (type = 'sink', {glue.options(sink, 'avro', **more)})")
    server.sql("CREATE PIPELINE copy WITH (checkpoint_interval = '1s') AS INSERT INTO bills SELECT id, upper(customer) FROM orders")
    taken = [unframed(value) for _, value in glue.read(sink, 50)]
    [version] = {version for version, _, _ in taken}
    assert {compressed for _, compressed, _ in taken} == {byte}
    known = glue.version(version)
    assert known["DataFormat"] == "AVRO" and known["SchemaArn"].endswith(f"default-registry/{sink}"), known
    schema = json.loads(known["SchemaDefinition"])
    found = [from_avro(schema, body) for _, _, body in taken]
    assert sorted(found, key=lambda row: row["id"]) == [{"id": i, "name": f"C{i}"} for i in range(50)]


def test_protobuf_and_json_have_the_same_frame(server, glue):
    source, protobuf, text = (glue.topic(f"glue-{name}") for name in ("orders", "protobuf", "json"))
    version = glue.create(source, "AVRO", json.dumps(V1))
    glue.write(source, [framed(version, avro(V1, {"id": 7, "customer": "ada"}))])
    columns = "(id BIGINT, customer TEXT)"
    server.sql(f"CREATE TABLE orders {columns} WITH (type = 'source', {glue.options(source, 'avro')})")
    for name, topic, format in [("p", protobuf, "protobuf"), ("j", text, "confluent_json")]:
        server.sql(f"CREATE TABLE {name} {columns} WITH (type = 'sink', {glue.options(topic, format)})")
        server.sql(f"CREATE PIPELINE to_{name} WITH (checkpoint_interval = '1s') AS INSERT INTO {name} SELECT * FROM orders")
    [(_, value)] = glue.read(protobuf, 1)
    version, _, body = unframed(value)
    known = glue.version(version)
    assert known["DataFormat"] == "PROTOBUF" and "message" in known["SchemaDefinition"], known
    # The number of the file's only message, then fields 1 and 2.
    assert body == b"\x00\x08\x07\x12\x03ada"
    [(_, value)] = glue.read(text, 1)
    version, _, body = unframed(value)
    assert json.loads(body) == {"id": 7, "customer": "ada"}
    known = glue.version(version)
    assert known["DataFormat"] == "JSON" and set(json.loads(known["SchemaDefinition"])["properties"]) == {"id", "customer"}
    # And we read what we wrote.
    for name, topic, format in [("p", protobuf, "protobuf"), ("j", text, "confluent_json")]:
        server.sql(f"CREATE TABLE {name}_back {columns} WITH (type = 'source', {glue.options(topic, format)})")
        server.sql(f"CREATE PIPELINE back_{name} AS SELECT * FROM {name}_back")
        assert rows(server, f"back_{name}", 1) == [[7, "ada"]]


def test_credentials_are_not_shown_and_an_outage_is_no_ones_fault(server, glue):
    topic = glue.topic("glue-down")
    version = glue.create(topic, "AVRO", json.dumps(V1))
    glue.write(topic, [framed(version, avro(V1, {"id": 1, "customer": "ada"}))])
    server.sql(f"CREATE TABLE orders (id BIGINT, customer TEXT) WITH (type = 'source', {glue.options(topic, 'avro')})")
    server.sql("CREATE PIPELINE seen AS SELECT id FROM orders")
    assert rows(server, "seen", 1) == [[1]]
    glue.kill()
    with pytest.raises(AssertionError, match="unreachable"):
        server.sql(f"CREATE TABLE again (id BIGINT) WITH (type = 'source', {glue.options(topic, 'avro')})")
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in server.log.read_text()
