"""A Kafka of a test's own, of one node or three, to be stopped, killed and started again; and a feed that goes on through all of it."""

import os
import signal
import subprocess
import threading
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException

from broker import Broker
from orders import wait_until

PARTS = Path(__file__).parents[4] / "scripts" / "parts.sh"


class Parts:
    """Parts of a test's own, in a folder of their own; a restart keeps ports and data."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments):
        environment = {**os.environ, "LAMINAR_PARTS": str(self.folder)}
        done = subprocess.run([PARTS, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def pid(self, part):
        return int((self.folder / part / "pid").read_text())

    def kill(self, part):
        """kill -9; its folder stays."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), 30, f"the end of {part}")


class FragileBroker(Broker):
    """One node."""

    def __init__(self, folder):
        self.parts = Parts(folder)
        self.start()
        super().__init__(f"127.0.0.1:{(folder / 'kafka' / 'ports').read_text().split()[0]}")

    def start(self):
        self.parts("start", "kafka")

    def pause(self):
        os.kill(self.parts.pid("kafka"), signal.SIGSTOP)

    def resume(self):
        os.kill(self.parts.pid("kafka"), signal.SIGCONT)

    def kill(self):
        self.parts.kill("kafka")

    def close(self):
        try:
            self.resume()
        except ProcessLookupError:
            pass  # it was killed
        self.parts("stop")


class FragileCluster(Broker):
    """Three nodes, with everything on each."""

    NODES = [1, 2, 3]
    replicas = 3

    def __init__(self, folder):
        self.parts = Parts(folder)
        self.start()
        super().__init__((folder / "cluster" / "addresses").read_text().strip())

    def start(self):
        """Those nodes that do not run."""
        self.parts("start", "cluster")

    def leader(self, topic, partition):
        return self.admin.list_topics(topic, timeout=30).topics[topic].partitions[partition].leader

    def is_whole(self):
        """Has every partition caught up on every node?"""
        topics = self.admin.list_topics(timeout=30).topics.values()
        return all(len(partition.isrs) == len(self.NODES) for topic in topics for partition in topic.partitions.values())

    def kill(self, node):
        self.parts.kill(f"cluster/{node}")

    def close(self):
        self.parts("stop")


def is_gone(pid):
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


class Numbers(threading.Thread):
    """Writes `{"n": 0}`, `{"n": 1}`, … to topics in turn, each once whatever the broker does, until it is told to end."""

    def __init__(self, broker, places):
        super().__init__(daemon=True)
        self.places = list(places)
        self.sent = 0
        self.ending = threading.Event()
        self.failure = None
        settings = {"enable.idempotence": True, "message.timeout.ms": 600_000, "topic.metadata.refresh.interval.ms": 200}
        self.producer = broker.producer(**settings)

    def run(self):
        while not self.ending.wait(0.01):
            for _ in range(100):
                self._send(*self.places[self.sent % len(self.places)])
            self.producer.poll(0)

    def _send(self, topic, partition):
        while not self.ending.is_set():
            try:
                self.producer.produce(topic, b'{"n":%d}' % self.sent, partition=partition)
                self.sent += 1
                return
            except BufferError:
                self.producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                    self.failure = error
                    raise
                self.producer.poll(0.1)  # a new partition is not known here yet

    def finish(self):
        """Ends, and waits until the broker has all; how many there are."""
        self.ending.set()
        self.join(30)
        assert self.failure is None, self.failure
        assert self.producer.flush(120) == 0, "the broker did not take all of the feed"
        return self.sent
