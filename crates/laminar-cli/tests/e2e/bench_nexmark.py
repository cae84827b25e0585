"""The 23 queries of the Nexmark benchmark, one after the other on one core's worth of tasks: events a second of CPU time.

`make bench-nexmark` runs it with the release binary. The queries are those whose results `cargo test --test nexmark` compares
with DataFusion's; here they write to a blackhole. An event counts once however often a query reads it; those that a query
does not read (a query of bids reads 46 of 50) count too, as the benchmark has it.

    LAMINAR_BINARY=… bench_nexmark.py EVENTS [QUERY…]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from bench_pipeline import cpu_seconds, peak_megabytes
from laminar import Process, Server

QUERIES = Path(__file__).parents[3] / "laminar-sqltest/tests/nexmark"
# Of 50 events in a row.
PER_50 = {"person": 1, "auction": 3, "bid": 46}
PATIENCE_SECONDS = 120


class Bench:
    def __init__(self, folder, events):
        self.events = events
        self.server = Server(os.environ["LAMINAR_BINARY"], folder, f"sqlite://{folder}/metadata.db").wait_until_ready()
        tables = (QUERIES / "tables.sql").read_text()
        tables = tables.replace("event_rate = 100", "event_rate = 10000").replace("shards = 2, ", "")
        self.server.sql(tables.replace("$events", str(events)).replace("$batch_size", "8192"))

    def run(self, query):
        """Part of the events that were read, CPU and wall seconds for them, largest state in bytes."""
        cpu, began = cpu_seconds(self.server.child.pid), time.monotonic()
        self.server.sql(f"""CREATE TABLE nowhere WITH (connector = 'blackhole', type = 'sink');
            CREATE PIPELINE q WITH (checkpoint_interval = '2s') AS INSERT INTO nowhere {query}""")
        state, part = 0, 0
        while part < 1 and time.monotonic() - began < PATIENCE_SECONDS:
            time.sleep(0.05)
            part = self.part_read()
            state = max(state, self.one("SELECT COALESCE(sum(state_bytes), 0) FROM system.metrics WHERE pipeline_name = 'q'"))
        spent = part, cpu_seconds(self.server.child.pid) - cpu, time.monotonic() - began
        if self.one("SELECT state FROM system.pipelines WHERE name = 'q'") == "running":
            self.server.sql("STOP PIPELINE q WITH CHECKPOINT")
            sizes = "SELECT COALESCE(max(size_bytes), 0) FROM system.checkpoints WHERE pipeline_name = 'q' AND state = 'completed'"
            state = max(state, self.one(sizes))
        self.server.sql("DROP PIPELINE q; DROP TABLE nowhere")
        return *spent, state

    def part_read(self):
        state, message = self.server.sql("SELECT state, failure_message FROM system.pipelines WHERE name = 'q'")["rows"][0]
        assert state in ("created", "scheduling", "running", "finished"), f"{state}: {message}"
        found = self.server.sql("SELECT operator_name, records_in FROM system.metrics WHERE pipeline_name = 'q' AND kind = 'source'")
        if state == "finished":
            return 1
        parts = [
            records * 50 / per_50 / self.events
            for name, records in found["rows"]
            for table, per_50 in PER_50.items()
            if f" {table} " in f"{name} "
        ]
        return min(parts, default=0)

    def one(self, query):
        rows = self.server.sql(query)["rows"]
        return rows[0][0] if rows else 0


def main():
    events = int(sys.argv[1]) // 50 * 50
    with tempfile.TemporaryDirectory(prefix="laminar-nexmark-") as folder:
        try:
            bench = Bench(Path(folder), events)
            line = "{:<6} {:>14} {:>14} {:>10} {:>12}".format
            print(f"Nexmark, {events:,} events, parallelism 1, checkpoint every 2 s")
            print(line("", "events/CPU s", "events/s", "seconds", "state MB"))
            for name in sys.argv[2:] or [f"q{number}" for number in range(23)]:
                part, cpu, wall, state = bench.run((QUERIES / f"{name}.sql").read_text())
                done = part * events
                note = "" if part == 1 else f"   {100 * part:.0f} % of the events in {PATIENCE_SECONDS} s"
                print(line(name, f"{done / cpu:,.0f}", f"{done / wall:,.0f}", f"{wall:.1f}", f"{state / 1e6:.1f}") + note, flush=True)
            print(f"peak memory of the server: {peak_megabytes(bench.server.child.pid):.0f} MB")
        finally:
            Process.kill_all()


if __name__ == "__main__":
    main()
