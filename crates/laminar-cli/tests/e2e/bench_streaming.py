"""What windows cost: a count per key in tumbling and in hopping windows of Kafka JSON, beside reading and decoding the same
rows; and how much faster two tasks are than one.

`make bench` runs it with the release binary. CPU is user + system time of the whole process from /proc while it reads, less
that of a pipeline over a topic with one row (start and planning), so that it is a cost per row.

    LAMINAR_BINARY=… LAMINAR_TEST_KAFKA=… bench_streaming.py ROWS
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from bench_pipeline import cpu_seconds, peak_megabytes
from broker import Broker
from laminar import Process, Server

PARTITIONS = 4
KEYS = 5000
EVENTS_PER_MS = 10
COLUMNS = "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP, extra TEXT"
OUTPUT = "auction BIGINT, bids BIGINT, closed TIMESTAMP"
QUERIES = {
    "reading and decoding two columns": "SELECT auction, 0, date_time FROM bids WHERE auction < 0",
    "tumble 10 s, count per auction": "SELECT auction, count(*), window.end FROM (SELECT auction, "
    "tumble(INTERVAL '10 seconds') AS window FROM bids) GROUP BY auction, window",
    "hop 1 s of 10 min, count per auction": "SELECT auction, n, w.end FROM (SELECT auction, count(*) AS n, "
    "hop(INTERVAL '1 second', INTERVAL '10 minutes') AS w FROM bids GROUP BY auction, w)",
}


def bid(i):
    text = (
        f'{{"auction":{1000 + i % KEYS},"bidder":{2000 + i % 9973},"price":{i * 7919 % 200_000},"channel":"channel-{i % 100}",'
        f'"url":"https://www.nexmark.com/item/{i:08}","date_time":{1_700_000_000_000 + i // EVENTS_PER_MS},"extra":"'
    )
    return text.ljust(198, "x") + '"}'


class Bench:
    """A release server, and one pipeline at a time in it."""

    def __init__(self, folder):
        self.server = Server(os.environ["LAMINAR_BINARY"], folder, f"sqlite://{folder}/metadata.db").wait_until_ready()

    def run(self, source, query, rows, parallelism=1, patience=300):
        """CPU and wall seconds until the pipeline has read `rows` rows of the source, which is the text of a WITH (…)."""
        self.server.sql(f"""
            CREATE TABLE bids ({COLUMNS}, WATERMARK FOR date_time AS date_time - INTERVAL '1 second') WITH ({source});
            CREATE TABLE nowhere ({OUTPUT}) WITH (connector = 'blackhole')""")
        cpu, began = cpu_seconds(self.server.child.pid), time.monotonic()
        self.server.sql(f"CREATE PIPELINE w WITH (parallelism = {parallelism}) AS INSERT INTO nowhere {query}")
        while self.read() < rows:
            if time.monotonic() - began > patience:
                raise SystemExit(f"only {self.read()} of {rows} rows were read\n{self.server.tail()}")
            time.sleep(0.02)
        spent = cpu_seconds(self.server.child.pid) - cpu, time.monotonic() - began
        self.server.sql("DROP PIPELINE w; DROP TABLE nowhere; DROP TABLE bids")
        return spent

    def read(self):
        found = self.server.sql("SELECT records_in FROM system.metrics WHERE pipeline_name = 'w' AND kind = 'source'")
        return found["rows"][0][0] if found["rows"] else 0


def from_kafka(bench, broker, rows):
    def topic(rows):
        name = broker.create_topic("bench-bids", partitions=PARTITIONS)
        producer = broker.producer()
        for i in range(rows):
            while True:
                try:
                    producer.produce(name, bid(i), partition=i % PARTITIONS)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(120)
        return (
            f"connector = 'kafka', bootstrap_servers = '{broker.address}', topic = '{name}', format = 'json', "
            "timestamp_format = 'unix_millis', offset = 'earliest'"
        )

    one, all_rows = topic(1), topic(rows)
    line = "{:<52} {:>12} {:>12} {:>8}".format
    print(f"\nKafka JSON → windows, {rows} rows of 200 bytes, {PARTITIONS} partitions, {KEYS} keys, parallelism 1")
    print(line("", "CPU ns/row", "rows/CPU s", "ratio"))
    base = None
    for name, query in QUERIES.items():
        start = bench.run(one, query, 1)[0]
        ns = min(bench.run(all_rows, query, rows)[0] - start for _ in range(2)) * 1e9 / rows
        ratio = "1.00" if base is None else f"{ns / base:.2f}"
        base = base or ns
        print(line(name, f"{ns:.0f}", f"{1e9 / ns:,.0f}", ratio), flush=True)


def from_files(bench, folder, rows):
    """One file in four places, so that only a quarter of the rows is written."""
    folder.mkdir(parents=True)
    first = folder / "0.json"
    with open(first, "w") as out:
        out.writelines(bid(i) + "\n" for i in range(rows // PARTITIONS))
    for part in range(1, PARTITIONS):
        os.link(first, folder / f"{part}.json")
    rows = rows // PARTITIONS * PARTITIONS
    source = f"connector = 'filesystem', path = '{folder}', format = 'json', timestamp_format = 'unix_millis'"
    query = QUERIES["tumble 10 s, count per auction"]
    print(f"\nfiles of JSON → tumble 10 s, count per auction, {rows} rows, {PARTITIONS} files")
    walls = {}
    for parallelism in (1, 2):
        walls[parallelism] = min(bench.run(source, query, rows, parallelism)[1] for _ in range(3))
        print(f"parallelism {parallelism}: {rows / walls[parallelism]:,.0f} rows/s")
    print(f"two tasks are {walls[1] / walls[2]:.2f} × as fast as one", flush=True)


def main():
    rows = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="laminar-bench-") as folder:
        try:
            bench = Bench(Path(folder))
            from_kafka(bench, Broker(os.environ["LAMINAR_TEST_KAFKA"]), rows)
            from_files(bench, Path(folder) / "data/files/bids", 4 * rows)
            print(f"peak memory of the server: {peak_megabytes(bench.server.child.pid):.0f} MB")
        finally:
            Process.kill_all()


if __name__ == "__main__":
    main()
