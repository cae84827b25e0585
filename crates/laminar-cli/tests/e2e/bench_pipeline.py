"""What a pipeline costs: Kafka JSON → filter and project → Kafka JSON, beside librdkafka's bare consume and produce.

`make bench` runs it with the release binary. The rows are those of the yardstick (`kafka_loop`, which fills its own topic and
copies it); our pipeline then reads the same topic. CPU is user + system time of the whole process from /proc, less that of a
run over a topic with one row (start and planning), so that it is a cost per row.

    LAMINAR_BINARY=… KAFKA_LOOP=… KAFKA_LATENCY=… LAMINAR_TEST_KAFKA=… bench_pipeline.py ROWS
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from broker import Broker
from laminar import Process

TICKS = os.sysconf("SC_CLK_TCK")
BYTES_PER_ROW = 200

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');
CREATE TABLE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP, extra TEXT)
WITH (connector = 'broker', topic = '{source}', type = 'source', format = 'json', timestamp_format = 'unix_millis');
CREATE TABLE wanted (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP)
WITH (connector = 'broker', topic = '{sink}', type = 'sink', format = 'json');
CREATE PIPELINE w1 WITH (parallelism = 1, checkpoint_interval = '{interval}', delivery = '{delivery}') AS
INSERT INTO wanted SELECT auction, bidder, price, date_time FROM bids WHERE price >= {threshold};
"""


class Run:
    """One life of the release binary over a topic, until `expected` rows are out."""

    def __init__(self, broker, source, expected, threshold, delivery, interval="1s", patience=120):
        self.broker, self.sink = broker, broker.create_topic("bench-wanted")
        self.folder = tempfile.TemporaryDirectory(prefix="laminar-bench-")
        folder = Path(self.folder.name)
        script = folder / "w1.sql"
        script.write_text(SQL.format(address=broker.address, source=source, sink=self.sink, threshold=threshold,
                                     delivery=delivery, interval=interval))
        self.began = time.monotonic()
        self.process = Process([os.environ["LAMINAR_BINARY"], "run", script, "--state-dir", folder / "state"], folder)
        self.expected, self.patience = expected, patience

    def wait(self):
        """CPU seconds, wall seconds and peak memory in MB when the last row is out."""
        reader = self.broker.reader(self.sink, lambda message: None)
        if not reader.wait_for(self.expected, self.patience):
            raise SystemExit(f"only {len(reader.kept)} of {self.expected} rows came out\n{self.process.tail()}")
        wall = time.monotonic() - self.began
        reader.close()
        cpu, peak = cpu_seconds(self.process.child.pid), peak_megabytes(self.process.child.pid)
        self.end()
        return cpu, wall, peak

    def end(self):
        self.process.stop()
        self.folder.cleanup()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_megabytes(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def bare_loop(broker, rows):
    """Runs the yardstick. Returns the topic that it filled, its ns of CPU a row (records written whole; cut to the length of
    ours), and its peak memory in MB."""
    before = set(broker.admin.list_topics(timeout=30).topics)
    env = {**os.environ, "ROWS": str(rows)}
    printed = subprocess.run([os.environ["KAFKA_LOOP"]], env=env, check=True, capture_output=True, text=True).stdout
    new = set(broker.admin.list_topics(timeout=30).topics) - before
    topic = next(name for name in new if name.startswith("bench-in-"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return topic, [float(ns) for ns in re.findall(r"(\d+) ns of CPU a row", printed)], peak


def latency(broker, rate, seconds):
    """What the probe prints at `rate` rows/s for librdkafka alone, and with our pipeline in between, at least once."""
    source = broker.create_topic("bench-paced")
    alone = probe(source, source, rate, seconds)
    source = broker.create_topic("bench-paced")
    run = Run(broker, source, 0, 0, "at_least_once")
    try:
        with_pipeline = probe(source, run.sink, rate, seconds)
    finally:
        run.end()
    return alone, with_pipeline


def probe(source, sink, rate, seconds):
    command = [os.environ["KAFKA_LATENCY"], source, sink, str(rate), str(seconds)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def one_row_topic(broker):
    topic = broker.create_topic("bench-one", partitions=1)
    producer = broker.producer()
    producer.produce(topic, '{"auction":1,"bidder":1,"price":1,"channel":"c","url":"u","date_time":0,"extra":"x"}')
    producer.flush(10)
    return topic


def main():
    rows = int(sys.argv[1])
    broker = Broker(os.environ["LAMINAR_TEST_KAFKA"])
    topic, (bare_ns, narrow_ns), bare_peak = bare_loop(broker, rows)
    line = "{:<52} {:>12} {:>12} {:>8} {:>10}".format
    print(f"\nKafka → Kafka, {rows} rows of {BYTES_PER_ROW} bytes, 4 partitions, parallelism 1")
    print(line("", "CPU ns/row", "rows/CPU s", "ratio", "peak MB"))
    print(line("librdkafka alone, consume and produce every row", f"{bare_ns:.0f}", f"{1e9 / bare_ns:,.0f}", "1.00", f"{bare_peak:.0f}"))
    narrow = [f"{narrow_ns:.0f}", f"{1e9 / narrow_ns:,.0f}", f"{narrow_ns / bare_ns:.2f}", ""]
    print(line("the same, 85 of the 200 bytes of each written", *narrow))
    start = Run(broker, one_row_topic(broker), 1, 0, "at_least_once").wait()[0]
    half = sum(1 for i in range(rows) if i * 7919 % 200_000 >= 100_000)
    for name, threshold, expected in [("half of the rows pass", 100_000, half), ("all rows pass", 0, rows)]:
        for delivery in ("at_least_once", "exactly_once"):
            cpu, _, peak = Run(broker, topic, expected, threshold, delivery).wait()
            ns = (cpu - start) * 1e9 / rows
            print(line(f"laminar, {name}, {delivery}", f"{ns:.0f}", f"{1e9 / ns:,.0f}", f"{ns / bare_ns:.2f}", f"{peak:.0f}"))
    print(f"start and planning, taken off: {start:.2f} s of CPU")
    alone, with_pipeline = latency(broker, 10_000, 15)
    print("\nproduce to consume at 10,000 rows/s without transactions")
    print(f"librdkafka and the broker alone:  {alone}")
    print(f"with the pipeline in between:     {with_pipeline}")


if __name__ == "__main__":
    main()
