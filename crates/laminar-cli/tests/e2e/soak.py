"""Ten minutes of four queries whose state must stay as large as it is: does memory, and what a checkpoint writes?

Each query has a release server of its own; all run side by side. Event time passes quickly where windows are long. After the
warm-up the resident memory is sampled every few seconds; what is printed is the slope of a line through the samples.

    LAMINAR_BINARY=… soak.py [MINUTES [NAME…]]
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from laminar import Process, Server

WARM_UP_SECONDS = 240
SAMPLE_SECONDS = 5
TARGET_PERCENT = 1.0


def rows(name, rate, step, **fields):
    """A table of generated rows, `rate` a second; the event time advances by `step` from one to the next."""
    options = "".join(f", 'fields.{column}.max' = {most}" for column, most in fields.items())
    columns = ", ".join(f"{column} BIGINT" for column in fields)
    return f"""CREATE TABLE {name} ({columns}, at TIMESTAMP, WATERMARK FOR at) WITH (connector = 'datagen',
        rows_per_second = {rate}, 'fields.at.kind' = 'sequence', 'fields.at.step' = '{step}'{options});"""


SOAKS = {
    # 5,000 rows a second of event time on each side: 50,000 rows within the TTL.
    "updating join, TTL of 10 s": (
        rows("a", 5000, "200us", k=50_000, v=1000) + rows("b", 5000, "200us", k=50_000, w=1000),
        "updating_ttl = '10s'",
        "k BIGINT, v BIGINT, w BIGINT",
        "SELECT a.k, a.v, b.w FROM a LEFT JOIN b ON a.k = b.k",
    ),
    "count(DISTINCT) per key": (
        rows("a", 20_000, "50us", k=1000, v=1000),
        "updating_ttl = '1 day'",
        "k BIGINT, n BIGINT",
        "SELECT k, count(DISTINCT v) FROM a GROUP BY k",
    ),
    # Of 2 M keys, those with a row in the last minute.
    "sessions of 1 M keys, gap of 1 min": (
        rows("a", 20_000, "40us", k=2_000_000),
        "updating_ttl = '1 day'",
        "k BIGINT, n BIGINT",
        "SELECT k, n FROM (SELECT k, session(INTERVAL '1 minute') AS w, count(*) AS n FROM a GROUP BY k, w)",
    ),
    # 25 s of event time in each second.
    "hop 1 s of 1 h, 1,000 keys": (
        rows("a", 10_000, "2500us", k=1000),
        "updating_ttl = '1 day'",
        "k BIGINT, n BIGINT",
        "SELECT k, n FROM (SELECT k, hop(INTERVAL '1 second', INTERVAL '1 hour') AS w, count(*) AS n FROM a GROUP BY k, w)",
    ),
}


class Soak:
    def __init__(self, name, folder):
        self.name, self.samples = name, []
        tables, options, columns, query = SOAKS[name]
        self.server = Server(os.environ["LAMINAR_BINARY"], folder, f"sqlite://{folder}/metadata.db").wait_until_ready()
        self.server.sql(f"""{tables}
            CREATE TABLE nowhere ({columns}) WITH (connector = 'blackhole');
            CREATE PIPELINE w WITH (checkpoint_interval = '10s', {options}) AS INSERT INTO nowhere {query}""")

    def sample(self, at):
        assert self.server.alive(), self.server.tail()
        self.samples.append((at, resident_megabytes(self.server.child.pid)))

    def report(self):
        warm = [(at, megabytes) for at, megabytes in self.samples if at >= WARM_UP_SECONDS]
        times, sizes = zip(*warm)
        slope = statistics.linear_regression(times, sizes).slope * 60
        percent = 100 * slope / statistics.mean(sizes)
        read = self.server.sql("SELECT sum(records_in) FROM system.metrics WHERE kind = 'source'")["rows"][0][0]
        sizes_of = "SELECT size_bytes FROM system.checkpoints WHERE state = 'completed' AND size_bytes IS NOT NULL"
        checkpoints = sorted(row[0] / 1e6 for row in self.server.sql(sizes_of)["rows"])
        verdict = "flat" if percent < TARGET_PERCENT else "GROWS"
        line = "{:<36} {:>12} {:>10} {:>10} {:>10} {:>10} {:>8}".format
        middle, largest = statistics.median(checkpoints), checkpoints[-1]
        print(line(self.name, f"{read:,}", f"{sizes[0]:.0f}", f"{sizes[-1]:.0f}", f"{percent:+.2f}", f"{middle:.1f}/{largest:.1f}", verdict))
        return percent < TARGET_PERCENT


def resident_megabytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    names = [name for name in SOAKS if not sys.argv[2:] or any(part in name for part in sys.argv[2:])]
    with tempfile.TemporaryDirectory(prefix="laminar-soak-") as folder:
        try:
            soaks = [Soak(name, Path(folder) / str(number)) for number, name in enumerate(names)]
            began = time.monotonic()
            while (at := time.monotonic() - began) < WARM_UP_SECONDS + 60 * minutes:
                for soak in soaks:
                    soak.sample(at)
                time.sleep(SAMPLE_SECONDS)
            print(f"{minutes:g} minutes after {WARM_UP_SECONDS} s of warm-up")
            print("{:<36} {:>12} {:>10} {:>10} {:>10} {:>10}".format("", "rows", "MB then", "MB now", "% a min", "checkpoint MB, middle/largest"))
            flat = [soak.report() for soak in soaks]
        finally:
            Process.kill_all()
    if not all(flat):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
