"""INFER TABLE: what it prints is a statement that reads the topic as it is."""

import json

import pytest

from laminar import reply


@pytest.fixture
def infer(server, broker):
    server.sql(f"CREATE CONNECTION kafka_here TO kafka (bootstrap_servers = '{broker.address}')")

    def run(name, records):
        topic = broker.create_topic("infer", 3)
        producer = broker.producer()
        for number, record in enumerate(records):
            producer.produce(topic, record if isinstance(record, bytes | None) else json.dumps(record), str(number))
        assert producer.flush(30) == 0
        query = json.dumps({"query": f"INFER TABLE {name} FROM CONNECTION kafka_here TOPIC '{topic}'"}).encode()
        return reply(server.port, "/api/v1/sql", query, {"Content-Type": "application/json", "Accept": "application/json"})

    return run


def test_what_it_prints_reads_the_topic(server, infer):
    records = [{"id": n, "userName": f"u{n}", "at": "2024-01-31T12:00:00Z", "tags": ["x"], "o": {"x": n / 2}, "odd": n if n % 2 else "x"} for n in range(50)]
    status, text = infer("people", [*records, b"poison", None])
    assert status == 200, text
    assert "bad_records" in text and "1 of the 51 records" in text, text
    [[statement]] = json.loads(text)["rows"]
    for column in ("id BIGINT", '"userName" TEXT', "at TIMESTAMP", "tags TEXT[]", "o STRUCT<x DOUBLE>", "odd JSON"):
        assert column in statement, statement
    assert server.sql("SHOW TABLES")["rows"] == [], "nothing is created"
    server.sql(statement)
    rows = server.sql('SELECT id, "userName", o, odd FROM people ORDER BY id')["rows"]
    assert len(rows) == 50 and rows[3][:2] == [3, "u3"] and json.loads(str(rows[3][3])) == 3, rows[3]


def test_changes_are_told_by_their_envelope(server, infer):
    status, text = infer("changes", [{"before": None, "after": {"id": 1, "n": 2}, "op": "c"}, {"before": {"id": 1, "n": 2}, "after": None, "op": "d"}])
    assert status == 200, text
    [[statement]] = json.loads(text)["rows"]
    assert "debezium_json" in statement and "id BIGINT" in statement, statement
    server.sql(statement)
    assert server.sql("SELECT * FROM changes")["rows"] == []


@pytest.mark.parametrize(
    "records, code, said",
    [
        ([], "bad_data", "has no records yet"),
        ([b"a,b", b"1,2"], "bad_data", "none is a JSON object"),
        ([b"\0\0\0\0\x01\x02\x03"] * 3, "not_supported", "registered schema"),
    ],
)
def test_what_is_no_json_is_told(infer, records, code, said):
    status, text = infer("nothing", records)
    assert status >= 400 and code in text and said in text, text


def test_names_that_do_not_exist(server, infer):
    def ask(query):
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return reply(server.port, "/api/v1/sql", json.dumps({"query": query}).encode(), headers)[1]

    assert "unknown_connection" in ask("INFER TABLE t FROM CONNECTION nobody TOPIC 'x'")
    assert "unknown_topic" in ask("INFER TABLE t FROM CONNECTION kafka_here TOPIC 'no-such-topic'")
    assert "syntax_error" in ask("INFER TABLE t FROM kafka_here")
