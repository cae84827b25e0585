"""A Kafka of a test's own, to be stopped, killed and started again; and a feed that goes on through all of it."""

import os
import signal
import subprocess
import threading
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException

from broker import Broker

PARTS = Path(__file__).parents[4] / "scripts" / "parts.sh"


class FragileBroker(Broker):
    """Apache Kafka in a folder of its own; a restart keeps its port and its data."""

    def __init__(self, folder):
        self.folder = folder
        self.start()
        super().__init__(f"127.0.0.1:{(folder / 'kafka' / 'ports').read_text().split()[0]}")

    def _parts(self, *arguments):
        environment = {**os.environ, "LAMINAR_PARTS": str(self.folder)}
        done = subprocess.run([PARTS, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    @property
    def pid(self):
        return int((self.folder / "kafka" / "pid").read_text())

    def start(self):
        self._parts("start", "kafka")

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        """kill -9; its folder stays."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            pass

    def close(self):
        try:
            self.resume()
        except ProcessLookupError:
            pass  # it was killed
        self._parts("stop")


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
