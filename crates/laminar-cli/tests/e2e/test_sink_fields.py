"""What SQL makes of a Kafka record besides its value: the producer examples of EMQX and tremor as SQL, dynamic topics,
headers, keys, partitions, timestamps, and the same through INSERT … VALUES. Judged by confluent-kafka."""

import json
import uuid

from orders import wait_until


def whole(message):
    """Partition, key, value, headers and timestamp of a message."""
    headers = [(name, value and value.decode()) for name, value in message.headers() or []]
    key, value = (part if part is None else part.decode() for part in (message.key(), message.value()))
    return message.partition(), key, value, headers, message.timestamp()[1]


def messages(broker, topic, count):
    reader = broker.reader(topic, whole)
    assert reader.wait_for(count, patience=60), f"{len(reader.kept)} of {count} in {topic}: {reader.kept}"
    kept = reader.drain(quiet=1)
    reader.close()
    assert len(kept) == count, kept
    return kept


def put(broker, topic, rows, **more):
    producer = broker.producer()
    for row in rows:
        value = row if isinstance(row, (str, bytes)) or row is None else json.dumps(row)
        producer.produce(topic, value, **more)
    producer.flush(30)


def test_the_producer_of_emqx_as_sql(server, broker):
    source, target = broker.create_topic("mqtt", 1), broker.create_topic("test-topic-two-partitions", 2)
    server.sql(f"""
        CREATE CONNECTION kproducer TO kafka (bootstrap_servers = '{broker.address}');
        CREATE TABLE mqtt (clientid TEXT, payload TEXT, "timestamp" BIGINT)
          WITH (connector = 'kproducer', type = 'source', topic = '{source}', format = 'json');
        CREATE TABLE bridge (clientid TEXT, payload TEXT, "timestamp" BIGINT) WITH (
          connector = 'kproducer', type = 'sink', topic = '{target}', format = 'json',
          'message.key' = '${{.clientid}}', 'message.value' = '${{.}}', 'message.timestamp' = '${{.timestamp}}',
          compression = 'no_compression', max_batch_bytes = '896KB', max_inflight = 10,
          partition_count_refresh_interval = '60s', partition_strategy = 'random', required_acks = 'all_isr',
          'buffer.mode' = 'hybrid', 'buffer.per_partition_limit' = '2GB', 'buffer.segment_bytes' = '100MB',
          'buffer.memory_overload_protection' = 'true');
        CREATE PIPELINE kproducer_bridge WITH (checkpoint_interval = '1s') AS INSERT INTO bridge SELECT * FROM mqtt;
    """)
    rows = [{"clientid": f"emqx_{i % 3}", "payload": '{ "msg": "Hello Kafka" }', "timestamp": 1679665968238 + i} for i in range(60)]
    put(broker, source, rows + [{"payload": "nobody", "timestamp": 1}])
    found = messages(broker, target, 61)
    assert {partition for partition, *_ in found} == {0, 1}, "random spreads them"
    by_time = sorted(found, key=lambda message: message[4])
    assert by_time[0][1:] == ("", '{"clientid":null,"payload":"nobody","timestamp":1}', [], 1), "what is absent is empty text"
    for row, (_, key, value, headers, time) in zip(rows, by_time[1:], strict=True):
        assert (key, json.loads(value), headers, time) == (row["clientid"], row, [], row["timestamp"])


def test_the_payload_templates_of_emqx_as_sql(server, broker):
    source, target = broker.create_topic("kafka-topic-2", 1), broker.create_topic("mqtt-topic-2", 1)
    server.sql(f"""
        CREATE CONNECTION consumer TO kafka (bootstrap_servers = '{broker.address}');
        CREATE TABLE read (value TEXT, _kafka_headers JSON, _kafka_key TEXT)
          WITH (connector = 'consumer', type = 'source', topic = '{source}', format = 'raw', include_metadata = 'true',
                'key_encoding_mode' = 'base64', 'value_encoding_mode' = 'none');
        CREATE TABLE written (value TEXT, headers JSON, key TEXT) WITH (connector = 'consumer', type = 'sink', topic = '{target}',
          'sink.value' = 'v = ${{.value}}, h1 = ${{.headers.h1}}, none = ${{.headers.h2}}, key = ${{.key}}');
        CREATE PIPELINE mapping WITH (checkpoint_interval = '1s') AS INSERT INTO written SELECT value, _kafka_headers, _kafka_key FROM read;
    """)
    put(broker, source, ["on"], key=b"\x00\xff", headers={"h1": "v1"})
    [(_, key, value, _, _)] = messages(broker, target, 1)
    assert (key, value) == (None, "v = on, h1 = v1, none = , key = AP8=")


def test_the_flows_of_tremor_as_sql(server, broker):
    """Events from a file's topic with their metadata, to tremor_test, and from there with the metadata they came with."""
    events, tremor, out = broker.create_topic("file", 1), broker.create_topic("tremor_test", 3), broker.create_topic("out", 1)
    server.sql(f"""
        CREATE CONNECTION kafka_cluster TO kafka (bootstrap_servers = '{broker.address}');
        CREATE TABLE read_file (event JSON, meta JSON)
          WITH (connector = 'kafka_cluster', type = 'source', topic = '{events}', format = 'json');
        CREATE TABLE producer (value TEXT, _kafka_key TEXT, _kafka_headers JSON, _kafka_timestamp BIGINT, _kafka_partition INT)
          WITH (connector = 'kafka_cluster', type = 'sink', topic = '{tremor}', format = 'raw', 'sink.key' = 'snot');
        CREATE PIPELINE produce WITH (checkpoint_interval = '1s') AS
          INSERT INTO producer SELECT event::TEXT, meta->>'key', meta->>'headers',
                 CAST(meta->>'timestamp' AS BIGINT), CAST(meta->>'partition' AS INT) FROM read_file;
        CREATE TABLE consumer (event TEXT, _kafka_key BYTEA, _kafka_headers JSON, _kafka_topic TEXT, _kafka_partition INT,
                               _kafka_offset BIGINT, _kafka_timestamp TIMESTAMP)
          WITH (connector = 'kafka_cluster', type = 'source', topic = '{tremor}', format = 'raw', include_metadata = 'true', group_id = '{tremor}-test1');
        CREATE TABLE write_file (event TEXT, "key" TEXT, headers JSON, partition INT)
          WITH (connector = 'kafka_cluster', type = 'sink', topic = '{out}', format = 'json');
        CREATE PIPELINE consume WITH (checkpoint_interval = '1s') AS
          INSERT INTO write_file SELECT event, arrow_cast(_kafka_key, 'Utf8'), _kafka_headers, _kafka_partition
          FROM consumer WHERE event <> '"exit"';
    """)
    put(broker, events, [
        {"event": {"snot": "badger"}, "meta": {"key": "own", "headers": {"h": "1"}, "timestamp": 1700000000000, "partition": 2}},
        {"event": {"a": 1}, "meta": {}},
        {"event": "exit", "meta": None},
    ])
    found = messages(broker, tremor, 3)
    assert (2, "own", '{"snot": "badger"}', [("h", "1")], 1700000000000) in found
    assert sorted(key for _, key, *_ in found) == ["own", "snot", "snot"], "the default key, where a row has none"
    echoed = [json.loads(value) for _, _, value, _, _ in messages(broker, out, 2)]
    assert {"event": '{"snot": "badger"}', "key": "own", "headers": {"h": "1"}, "partition": 2} in echoed


def test_topics_by_row_and_insert_values(server, broker):
    """One INSERT writes to two topics; a topic that is missing is made as the options say."""
    fixed, other = broker.create_topic("fixed", 1), f"made-{uuid.uuid4().hex[:8]}"
    server.sql(f"""
        CREATE TABLE routed (id BIGINT, _target_topic TEXT, _kafka_key TEXT, _kafka_headers JSON, _kafka_partition INT)
          WITH (connector = 'kafka', bootstrap_servers = '{broker.address}', type = 'sink', topic = '{fixed}', topic_field = '_target_topic',
                'value.exclude' = '_target_topic', 'topic.auto_create' = 'true', 'topic.partitions' = '3');
        INSERT INTO routed VALUES (1, NULL, 'a', NULL, NULL), (2, '{other}', 'b', '{{"h":"x"}}', 2), (3, '{other}', NULL, NULL, 1);
    """)
    assert [m[:4] for m in messages(broker, fixed, 1)] == [(0, "a", '{"id":1}', [])]
    assert sorted(m[:3] for m in messages(broker, other, 2)) == [(1, None, '{"id":3}'), (2, "b", '{"id":2}')]
    assert len(broker.partitions(other)) == 3


def test_tables_that_cannot_be_are_refused_where_they_are_wrong(server, broker):
    from laminar import reply

    def refused(columns, options):
        text = f"CREATE TABLE t ({columns}) WITH (connector = 'kafka', bootstrap_servers = '{broker.address}', type = 'sink', {options})"
        status, answer = reply(server.port, "/api/v1/sql", json.dumps({"query": text}).encode(), {"Content-Type": "application/json"})
        assert status >= 400, answer
        return json.loads(answer)["error"]["code"]

    assert refused("v TEXT", "format = 'json'") == "missing_option"
    assert refused("v TEXT", "topic = '__consumer_offsets'") == "forbidden_option"
    assert refused("v TEXT", "topic = 'x', topic_field = 'w'") == "unknown_column"
    assert refused("v TEXT", "topic = 'x', acks = '1', delivery = 'exactly_once'") == "conflicting_options"
    assert refused("v TEXT", f"topic = 'none-{uuid.uuid4().hex}', 'topic.auto_create' = 'false'") == "unknown_topic"
    assert refused("v TEXT, _kafka_offset BIGINT", "topic = 'x'") == "not_supported"
    assert refused("v TEXT, _kafka_partition TEXT", "topic = 'x'") == "type_mismatch"
    assert refused("v TEXT", "topic = 'x', 'sink.key' = '${.nobody}'") == "unknown_column"


def test_a_row_that_is_too_large_stops_the_job_and_says_why(server, broker):
    source, target = broker.create_topic("large", 1), broker.create_topic("small", 1)
    server.sql(f"""
        CREATE TABLE large (v TEXT) WITH (connector = 'kafka', bootstrap_servers = '{broker.address}', type = 'source', topic = '{source}');
        CREATE TABLE small (v TEXT) WITH (connector = 'kafka', bootstrap_servers = '{broker.address}', type = 'sink', topic = '{target}');
        CREATE PIPELINE grows WITH (checkpoint_interval = '1s') AS INSERT INTO small SELECT v || v FROM large;
    """)
    put(broker, source, [{"v": "x" * 600_000}])
    jobs = lambda: server.sql("SELECT state, failure_code, restarts FROM system.jobs")["rows"]  # noqa: E731
    wait_until(lambda: jobs()[0][0] == "Failed", 60, "the job to fail", server.tail)
    assert jobs() == [["Failed", "row_too_large", 0]], "no restart helps"
