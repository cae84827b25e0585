"""The broker goes away and comes back, partitions and topics are added, deleted and made again: nothing is lost, nothing comes
twice, memory stays within its bound, and `system.connections` says how it stands."""

import json
import time
from collections import Counter

import pytest

from doubler import new_database
from fragile import FragileBroker, FragileCluster, Numbers
from laminar import Server
from orders import wait_until

# Resident memory of the whole server, in MB; without a load it is about 100.
MEMORY = 600

SOURCE = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}', 'socket.timeout.ms' = '3000', 'reconnect.interval_ms' = '200');
CREATE TABLE numbers (n BIGINT) WITH (connector = 'broker', type = 'source', format = 'json', {options},
    partition_discovery_interval = '300ms');
CREATE TABLE copies (n BIGINT) WITH (connector = 'broker', type = 'sink', format = 'json', topic = '{sink}');
CREATE PIPELINE copy WITH (parallelism = {parallelism}, checkpoint_interval = '500ms', max_restarts = 1000)
    AS INSERT INTO copies SELECT n FROM numbers;
"""


@pytest.fixture
def fragile(tmp_path):
    broker = FragileBroker(tmp_path / "parts")
    yield broker
    broker.close()


@pytest.fixture
def cluster(request, tmp_path):
    if not request.config.getoption("--full"):
        pytest.skip("three brokers beside everything else are too much for a small machine: --full")
    cluster = FragileCluster(tmp_path / "parts")
    yield cluster
    cluster.close()


@pytest.fixture
def outage(request):
    """How many seconds the broker is away."""
    return 60 if request.config.getoption("--full") else 12


class Copy:
    """The pipeline, its output, and how it stands."""

    def __init__(self, binary, broker, folder, options, parallelism=2):
        self.binary, self.folder, self.broker = binary, folder, broker
        self.database = new_database("sqlite", None, folder)
        self.sink = broker.create_topic("copies", 2)
        self.server = self.start()
        self.server.sql(SOURCE.format(address=broker.address, options=options, sink=self.sink, parallelism=parallelism))
        self.reader = broker.reader(self.sink, lambda message: json.loads(message.value())["n"])
        self.most_memory = 0

    def start(self):
        return Server(self.binary, self.folder, self.database).wait_until_ready()

    def kill_and_start(self):
        self.server.kill()
        self.server = self.start()

    def rows(self):
        """How many came so far; looks at the memory too."""
        if self.server.alive():
            self.most_memory = max(self.most_memory, memory(self.server.child.pid))
        return len(self.reader.so_far())

    def ask(self, columns, of, where="true"):
        answer = self.server.sql(f"SELECT {columns} FROM {of} WHERE {where}")
        return answer["rows"][0] if answer["rows"] else None

    def connection(self):
        """Status, last error, messages in and out."""
        return self.ask("status, last_error, messages_in, messages_out", "system.connections", "name = 'broker'")

    def wait_for_status(self, *wanted, seconds=90):
        def reached():
            found = self.connection()
            return found if found[0] in wanted else None

        return wait_until(reached, seconds, f"status {' or '.join(wanted)}", lambda: f"{self.connection()}\n{self.server.tail()}")

    def judge(self, sent):
        """Every number once."""
        assert self.reader.wait_for(sent, 60), f"{len(self.reader.kept)} of {sent} came\n{self.connection()}\n{self.server.tail()}"
        seen = Counter(self.reader.drain(quiet=2))
        twice = [n for n, count in seen.items() if count > 1]
        lost = [n for n in range(sent) if n not in seen]
        assert not twice and not lost, f"twice {twice[:10]}, lost {lost[:10]}\n{self.server.tail()}"
        assert 0 < self.most_memory < MEMORY, f"{self.most_memory} MB"


def memory(pid):
    """Resident memory in MB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_a_broker_that_goes_away_and_comes_back(how, fragile, binary, tmp_path, outage, say):
    topic = fragile.create_topic("numbers", 4)
    copy = Copy(binary, fragile, tmp_path / "laminar", f"topic = '{topic}'")
    feed = Numbers(fragile, [(topic, partition) for partition in range(4)])
    feed.start()
    wait_until(lambda: copy.rows() > 1000, 60, "the first rows", copy.server.tail)
    status, error, came, went = copy.wait_for_status("running")
    assert error is None and came > 0 and went > 0, (error, came, went)

    getattr(fragile, how)()
    status, error, *_ = copy.wait_for_status("unreachable", seconds=30)
    assert error, f"{status} without a reason"
    say(f"{how}: {status}, {error}")
    end = time.monotonic() + outage
    while time.monotonic() < end:
        copy.rows()
        state, why = copy.ask("state, failure_message", "system.pipelines")
        assert state == "running" or why, f"{state} without a reason"
        time.sleep(0.2)
    fragile.resume() if how == "pause" else fragile.start()

    before = copy.rows()
    wait_until(lambda: copy.rows() > before + 1000, 120, "rows after the outage", copy.server.tail)
    _, error, *_ = copy.wait_for_status("running")
    assert error is None, error
    sent = feed.finish()
    copy.judge(sent)
    say(f"{how} for {outage} s: {sent} rows, each once; at most {copy.most_memory} MB")


def test_leaders_that_are_killed(cluster, binary, tmp_path, say):
    """One node after the other, so the leader of each partition, of the input and of the output, and whoever coordinates the
    transactions."""
    topic = cluster.create_topic("numbers", 4)
    copy = Copy(binary, cluster, tmp_path / "laminar", f"topic = '{topic}'")
    feed = Numbers(cluster, [(topic, partition) for partition in range(4)])
    feed.start()
    wait_until(lambda: copy.rows() > 1000, 60, "the first rows", copy.server.tail)
    led = {node: [p for p in range(4) if cluster.leader(topic, p) == node] for node in cluster.NODES}
    assert sum(map(len, led.values())) == 4, led
    for node in cluster.NODES:
        wait_until(cluster.is_whole, 60, "all replicas to catch up")
        cluster.kill(node)
        before, began = copy.rows(), time.monotonic()
        seen = lambda: f"{feed.sent} sent, {copy.rows()} seen, {copy.connection()}\n{copy.server.tail()}"  # noqa: E731
        wait_until(lambda: copy.rows() > before + 1000, 120, f"rows without node {node}", seen)
        say(f"node {node} killed, which led {led[node]}: 1000 rows after {time.monotonic() - began:.1f} s")
        cluster.start()
    _, error, *_ = copy.wait_for_status("running")
    assert error is None, error
    sent = feed.finish()
    copy.judge(sent)
    say(f"three leaders killed: {sent} rows, each once; at most {copy.most_memory} MB")


def test_partitions_and_topics_that_are_added(broker, binary, tmp_path, say):
    """While rows flow, and the server is killed in between."""
    first = broker.create_topic("growing-a", 1)
    copy = Copy(binary, broker, tmp_path / "laminar", f"topic_pattern = '{first}(-more-.)?'", parallelism=3)
    feed = Numbers(broker, [(first, 0)])
    feed.start()
    wait_until(lambda: copy.rows() > 500, 60, "the first rows", copy.server.tail)
    places = [(first, 0)]
    for step in range(4):
        if step % 2 == 0:
            partitions = len(broker.partitions(first)) + 2
            broker.grow(first, partitions)
            places += [(first, partitions - 2), (first, partitions - 1)]
        else:
            topic = broker.create(f"{first}-more-{step}", 2)
            places += [(topic, 0), (topic, 1)]
        feed.places = list(places)
        before = copy.rows()
        wait_until(lambda: copy.rows() > before + 1000, 60, "rows of the new ones", copy.server.tail)
        copy.kill_and_start()
    copy.judge(feed.finish())
    offsets = copy.ask("count(*)", "system.tasks", "records_out > 0 AND operator_id = 'source-0'")
    say(f"{len(places)} partitions in 3 topics, 4 kills: {feed.sent} rows, each once; {offsets[0]} tasks read")


def replace(broker, topic, values):
    """Deletes the topic and makes another of the same name, with other records."""
    broker.create(topic, 1)
    producer = broker.producer()
    for value in values:
        producer.produce(topic, b'{"n":%d}' % value)
    assert producer.flush(30) == 0


@pytest.mark.parametrize("server_is", ["running", "stopped"])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_topic_that_is_deleted_and_created_again(policy, server_is, broker, binary, tmp_path):
    """The new one is longer than the old one: no offset is out of range, and only its id tells them apart."""
    topic = broker.create_topic("replaced", 1)
    copy = Copy(binary, broker, tmp_path / "laminar", f"topic = '{topic}', on_data_loss = '{policy}'", parallelism=1)
    replace_with = range(1_000, 1_500)
    producer = broker.producer()
    for n in range(100):
        producer.produce(topic, b'{"n":%d}' % n)
    assert producer.flush(30) == 0
    wait_until(lambda: copy.rows() == 100, 60, "the first rows", copy.server.tail)
    if server_is == "stopped":
        assert copy.server.stop() == 0
    replace(broker, topic, replace_with)
    if server_is == "stopped":
        copy.server = copy.start()

    if policy == "fail":
        state = lambda: copy.ask("state, failure_message", "system.jobs")  # noqa: E731
        wait_until(lambda: state()[0] == "Failed", 60, "the failure", lambda: f"{state()}\n{copy.server.tail()}")
        assert "deleted and created again" in state()[1], state()
        status, error, *_ = copy.connection()
        assert status == "failed" and topic in error, (status, error)
        return
    # What is read of the new one before it is known as such comes again with the rest of it.
    wait_until(lambda: set(replace_with) <= set(copy.reader.drain()), 60, "the new topic's rows", copy.server.tail)
    assert sorted(set(copy.reader.kept)) == [*range(100), *replace_with]
    if server_is == "stopped":
        assert len(copy.reader.kept) == 600
