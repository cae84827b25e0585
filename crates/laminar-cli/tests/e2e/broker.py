"""The outside world of a test: topics, and readers and writers that share no code with the engine."""

import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic


# The client goes on by itself.
AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)


class Broker:
    replicas = 1  # of its topics

    def __init__(self, address):
        self.address = address
        self.admin = AdminClient({"bootstrap.servers": address})

    def create_topic(self, prefix, partitions=4, **how):
        """A topic of its own for this test; answers its name."""
        return self.create(f"{prefix}-{uuid.uuid4().hex[:8]}", partitions, **how)

    def create(self, name, partitions=4, config=None):
        """The topic of this name, empty: one that an earlier run left is replaced. Answers the name."""
        if name in self.topics():
            self.drop(name)
        for future in self.admin.create_topics([NewTopic(name, partitions, self.replicas, config=config or {})]).values():
            future.result(30)
        while len(self.partitions(name)) < partitions:  # the broker tells of it a moment later
            time.sleep(0.05)
        return name

    def drop(self, name):
        for future in self.admin.delete_topics([name]).values():
            future.result(30)
        while name in self.topics():
            time.sleep(0.05)

    def grow(self, name, partitions):
        """Adds partitions until there are so many."""
        for future in self.admin.create_partitions([NewPartitions(name, partitions)]).values():
            future.result(30)
        while len(self.partitions(name)) < partitions:
            time.sleep(0.05)

    def topics(self):
        """Names of all topics but the broker's and Laminar's own."""
        return sorted(name for name in self.admin.list_topics(timeout=30).topics if not name.startswith("__"))

    def partitions(self, topic):
        return sorted(self.admin.list_topics(topic, timeout=30).topics[topic].partitions)

    def producer(self, **settings):
        defaults = {"bootstrap.servers": self.address, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "log_level": 3}
        return Producer({**defaults, **settings})

    def reader(self, topic, keep):
        """A reader that remembers `keep(message)` of each message."""
        return CommittedReader(self, topic, keep)

    def consumer(self, settings, topic):
        """A plain consumer of all partitions from their start."""
        defaults = {"bootstrap.servers": self.address, "group.id": f"reader-{uuid.uuid4()}", "enable.auto.commit": False}
        consumer = Consumer({**defaults, **settings})
        consumer.assign([TopicPartition(topic, p, 0) for p in self.partitions(topic)])
        return consumer

    def group_offsets(self, group, topic):
        """Committed offset of each partition: what every Kafka tool shows as the group's progress."""
        consumer = self.consumer({"group.id": group}, topic)
        answer = consumer.committed([TopicPartition(topic, p) for p in self.partitions(topic)], timeout=30)
        consumer.close()
        return {part.partition: part.offset for part in answer}

    def ends(self, topic):
        """Of each partition, the offset after its last record (transaction markers come after it, and do not count)."""
        last = {}
        for partition, offset in self.reader(topic, lambda m: (m.partition(), m.offset())).drain():
            last[partition] = offset + 1
        return last


class CommittedReader:
    """Reads a topic from its start with `read_committed`: what a user of the output sees, and nothing more."""

    def __init__(self, broker, topic, keep):
        self.keep = keep
        self.kept = []
        self.at_end = set()
        settings = {"isolation.level": "read_committed", "enable.partition.eof": True}
        self.consumer = broker.consumer(settings, topic)
        self.partitions = len(broker.partitions(topic))

    def drain(self, quiet=0.2):
        """Reads to the end of every partition, until nothing more came for `quiet` seconds; all that was kept so far."""
        last = time.monotonic()
        while len(self.at_end) < self.partitions or time.monotonic() - last < quiet:
            if self._take():
                last = time.monotonic()
        return self.kept

    def so_far(self, seconds=1):
        """All that was kept so far, after reading for at most so long: also while more and more comes, or no broker answers."""
        end = time.monotonic() + seconds
        while self._take() and time.monotonic() < end:
            pass
        return self.kept

    def _take(self):
        """Keeps what is at hand; was there something?"""
        before = len(self.kept)
        for message in self.consumer.consume(10_000, 0.1):
            if message.error() is None:
                self.at_end.discard(message.partition())
                self.kept.append(self.keep(message))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                self.at_end.add(message.partition())
            elif message.error().code() not in AWAY:
                raise RuntimeError(message.error())
        return len(self.kept) > before

    def wait_for(self, count, patience):
        """Reads until `count` messages came in all; False if none came for `patience` seconds."""
        last = time.monotonic()
        while len(self.kept) < count:
            before = len(self.kept)
            self.drain()
            if len(self.kept) > before:
                last = time.monotonic()
            elif time.monotonic() - last > patience:
                return False
        return True

    def close(self):
        self.consumer.close()
