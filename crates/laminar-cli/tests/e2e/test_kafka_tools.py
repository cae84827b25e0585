"""Looking at the Kafka behind a connection, and moving it: the system tables and `laminar kafka`, judged by another client."""

import json
import subprocess
import time
import uuid

from confluent_kafka import TopicPartition

from laminar import Server
from orders import wait_until


def test_what_is_in_kafka_is_shown_and_moved(binary, broker, sasl, tmp_path):
    topic, group = broker.create_topic("tools", 2), f"group-{uuid.uuid4().hex[:8]}"
    producer = broker.producer()
    for number in range(10):
        producer.produce(topic, str(number), partition=0, timestamp=1000 * (number + 1))
    producer.flush()
    consumer = broker.consumer({"group.id": group}, topic)
    consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    consumer.close()

    server = Server(binary, tmp_path, f"sqlite:{tmp_path}/data/laminar.db").wait_until_ready()
    server.sql(f"""
        CREATE CONNECTION here TO kafka (bootstrap_servers = '{broker.address}');
        CREATE CONNECTION away TO kafka (bootstrap_servers = '127.0.0.1:1');
        CREATE CONNECTION refused TO kafka (bootstrap_servers = '{sasl}', 'auth.protocol' = 'SASL_PLAINTEXT',
          'auth.username' = 'test', 'auth.password' = 'wrong');
        CREATE CONNECTION files TO impulse (event_rate = 1);
    """)

    begun = time.monotonic()
    brokers = server.rows("SELECT * FROM system.kafka_brokers ORDER BY connection")
    assert time.monotonic() - begun < 10, "the ones that do not answer are waited for one after the other"
    assert [row["connection"] for row in brokers] == ["away", "here", "refused"]
    assert brokers[0]["error"].startswith("unreachable: ") and brokers[0]["host"] is None
    assert brokers[2]["error"].startswith("authentication_failed: ")
    assert f"{brokers[1]['host']}:{brokers[1]['port']}" == broker.address and brokers[1]["error"] is None

    topics = server.rows(f"SELECT * FROM system.kafka_topics WHERE connection = 'here' AND topic = '{topic}'")
    assert [(row["partitions"], row["replication_factor"], row["cleanup_policy"]) for row in topics] == [(2, 1, "delete")]
    partitions = server.rows(f"SELECT * FROM system.kafka_partitions WHERE connection = 'here' AND topic = '{topic}' ORDER BY partition")
    assert [(row["low_watermark"], row["high_watermark"]) for row in partitions] == [(0, 10), (0, 0)]
    groups = server.rows(f"SELECT * FROM system.kafka_consumer_groups WHERE connection = 'here' AND group_id = '{group}'")
    assert [(row["state"], row["partition"], row["committed_offset"], row["lag"]) for row in groups] == [("Empty", 0, 4, 6)]

    def tool(*arguments, fails=False):
        command = [binary, "kafka", "--url", f"http://127.0.0.1:{server.port}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    assert group in tool("list-groups", "--connection", "here")
    assert topic in tool("list-topics", "--connection", "here", "--output", "csv")
    for place, expected in [
        (["--to-earliest"], 0), (["--to-latest"], 10), (["--to-offset", "7"], 7),
        (["--to-timestamp", "1970-01-01T00:00:03.500Z"], 3), (["--to-timestamp", "99000", "--topic", topic], 10),
    ]:  # fmt: skip
        told = tool("reset-offset", "--connection", "here", "--group", group, *place)
        assert f"{topic}/0 offset {expected}" in told
        assert broker.group_offsets(group, topic)[0] == expected, place
    made = f"made-{uuid.uuid4().hex[:8]}"
    tool("create-topic", "--connection", "here", made, "--partitions", "3", "--config", "retention.ms=60000")
    assert broker.partitions(made) == [0, 1, 2]

    assert "duplicate_name" in tool("create-topic", "--connection", "here", made, fails=True)
    assert "unknown_connection" in tool("list-groups", "--connection", "nobody", fails=True)
    assert "wrong_object_kind" in tool("create-topic", "--connection", "files", "t", fails=True)
    assert "unreachable" in tool("reset-offset", "--connection", "away", "--group", group, "--to-latest", fails=True)
    tool("reset-offset", "--connection", "here", "--group", group, "--to-earliest")
    member = broker.consumer({"group.id": group}, topic)
    member.unassign()
    member.subscribe([topic])
    wait_until(lambda: member.poll(0.1), 60, "the group's member to read")
    told = tool("reset-offset", "--connection", "here", "--group", group, "--to-latest", fails=True)
    assert "wrong_state" in told and "stop its consumers first" in told
    member.close()
    assert json.loads(server.rows(f"SELECT member_ids FROM system.kafka_consumer_groups WHERE connection = 'here' AND group_id = '{group}'")[0]["member_ids"]) == []
    server.stop()
