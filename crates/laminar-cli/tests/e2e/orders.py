"""The data of the crash tests: orders made from a seed, how they flow, and the judge of what came out.

Every order follows from its number, so the judge needs no copy of what was sent:

    number 7 ─► {"key": "k7", "seq": 7, "amount": …, "event_ts": …}, Kafka key k7, header n=7, timestamp base+7 ms

The query keeps the rows whose amount is not a multiple of 4, and doubles the amount. Rows that a producer sent in a
transaction and then aborted have `seq` -1 and must not come out.
"""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone

KEYS = 1000
BASE_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

SQL = """
CREATE CONNECTION broker TO kafka (bootstrap_servers = '{address}');

CREATE TABLE orders (
    key TEXT,
    seq BIGINT,
    amount BIGINT,
    event_ts TIMESTAMP,
    _kafka_topic TEXT,
    _kafka_partition INT,
    _kafka_offset BIGINT,
    _kafka_timestamp TIMESTAMP,
    _kafka_key BYTEA,
    _kafka_headers JSON
) WITH (
    connector = 'broker', topic = '{source}', type = 'source', format = 'json', offset = 'earliest',
    include_metadata = 'true', timestamp_format = 'unix_millis'
);

CREATE TABLE doubled (
    key TEXT,
    seq BIGINT,
    doubled BIGINT,
    event_ts TIMESTAMP,
    source_topic TEXT,
    source_partition INT,
    source_offset BIGINT,
    source_timestamp TIMESTAMP,
    source_key TEXT,
    source_headers JSON
) WITH (connector = 'broker', topic = '{sink}', type = 'sink', format = 'json', key_field = 'key');
"""

PIPELINE = """
CREATE PIPELINE doubler WITH (parallelism = {parallelism}, checkpoint_interval = '200ms', delivery = 'exactly_once') AS
INSERT INTO doubled
SELECT key, seq, amount * 2, event_ts, _kafka_topic, _kafka_partition, _kafka_offset, _kafka_timestamp,
       CAST(_kafka_key AS TEXT), _kafka_headers
FROM orders
WHERE amount % 4 <> 0;
"""


@dataclass(frozen=True)
class Orders:
    count: int
    seed: int

    def amount(self, seq):
        return ((seq + self.seed) * 2_654_435_761 >> 7) % 1000

    def passes(self, seq):
        return self.amount(seq) % 4 != 0

    def key(self, seq):
        return f"k{seq * 7919 % KEYS}"

    def value(self, seq):
        return f'{{"key":"{self.key(seq)}","seq":{seq},"amount":{self.amount(seq)},"event_ts":{BASE_MS + seq}}}'

    def expected(self):
        return sum(1 for seq in range(self.count) if self.passes(seq))


class Feed(threading.Thread):
    """Writes the orders in transactions, never further than the test allows; now and then one that it aborts."""

    CHUNK = 1_000

    def __init__(self, broker, topic, orders, **settings):
        super().__init__(daemon=True)
        self.topic, self.orders = topic, orders
        self.allowed = threading.Condition()
        self.limit = 0
        self.error = None
        self.producer = broker.producer(**{"transactional.id": f"feed-{topic}", "enable.idempotence": True, **settings})

    def allow(self, limit):
        """Lets the feed go on up to order number `limit`."""
        with self.allowed:
            self.limit = min(limit, self.orders.count)
            self.allowed.notify()

    def run(self):
        try:
            self._run()
        except Exception as error:  # noqa: BLE001  told to the test by `finish`
            self.error = error

    def _run(self):
        self.producer.init_transactions(30)
        for number, start in enumerate(range(0, self.orders.count, self.CHUNK)):
            end = min(start + self.CHUNK, self.orders.count)
            with self.allowed:
                self.allowed.wait_for(lambda: self.limit >= end)
            if number % 10 == 3:
                self._transaction_that_is_aborted()
            self.producer.begin_transaction()
            for seq in range(start, end):
                self._send(self.orders.key(seq), self.orders.value(seq), BASE_MS + seq, str(seq))
            self.producer.commit_transaction(60)

    def _transaction_that_is_aborted(self):
        self.producer.begin_transaction()
        for number in range(100):
            self._send(f"k{number}", f'{{"key":"k{number}","seq":-1,"amount":1,"event_ts":0}}', BASE_MS, "-1")
        self.producer.flush(30)
        self.producer.abort_transaction(60)

    def _send(self, key, value, timestamp, header):
        while True:
            try:
                self.producer.produce(self.topic, value, key, timestamp=timestamp, headers=[("n", header)])
                return
            except BufferError:
                self.producer.poll(0.1)

    def finish(self):
        self.allow(self.orders.count)
        self.join(120)
        if self.error:
            raise self.error
        assert not self.is_alive(), "the feed hangs"


@dataclass
class Verdict:
    expected: int
    seen: int
    lost: int
    duplicated: int
    out_of_order: int
    wrong: int
    examples: list = field(default_factory=list)

    @property
    def clean(self):
        return self.lost == self.duplicated == self.out_of_order == self.wrong == 0

    def __str__(self):
        text = (f"rows {self.seen} lost {self.lost} duplicated {self.duplicated} "
                f"out of order {self.out_of_order} wrong {self.wrong}")
        return "\n".join([text, *self.examples])


def origin(message):
    """What the judge remembers of an input message: its number, partition and offset."""
    return int(dict(message.headers())["n"]), message.partition(), message.offset()


def outcome(message):
    """What the judge remembers of an output message."""
    return message.partition(), message.key(), message.value()


def judge(orders, source, origins, outcomes):
    """Compares what a reader of the output saw with what should be there, and the metadata with the input topic."""
    place_of = {seq: (partition, offset) for seq, partition, offset in origins}
    verdict = Verdict(orders.expected(), len(outcomes), 0, 0, 0, 0)

    def blame(kind, text):
        setattr(verdict, kind, getattr(verdict, kind) + 1)
        if len(verdict.examples) < 10:
            verdict.examples.append(f"{kind}: {text}")

    seen = Counter()
    last_of_key = {}
    for partition, key, value in outcomes:
        row = json.loads(value)
        seq = row["seq"]
        seen[seq] += 1
        if seen[seq] > 1:
            blame("duplicated", row)
            continue
        if not (0 <= seq < orders.count and orders.passes(seq)):
            blame("wrong", f"should not be here: {row}")
            continue
        expected = expected_row(orders, source, seq, place_of.get(seq), row)
        if row != expected or key != orders.key(seq).encode():
            blame("wrong", f"{row} with key {key}, expected {expected}")
        if last_of_key.get((key, partition), -1) > seq:
            blame("out_of_order", f"{seq} after {last_of_key[key, partition]} of key {key}")
        last_of_key[key, partition] = seq
    partitions = Counter(key for key, _ in last_of_key)
    for key in (key for key, count in partitions.items() if count > 1):
        blame("out_of_order", f"key {key} is in {partitions[key]} partitions")
    for seq in range(orders.count):
        if orders.passes(seq) and seq not in seen:
            blame("lost", orders.value(seq))
    return verdict


def expected_row(orders, source, seq, place, row):
    """The row as it should be; times and headers are compared by what they mean, so taken over when that agrees."""
    partition, offset = place or (None, None)
    agrees = {
        name: row.get(name) if millis(row.get(name)) == BASE_MS + seq else BASE_MS + seq
        for name in ("event_ts", "source_timestamp")
    }
    headers = row.get("source_headers")
    return {
        "key": orders.key(seq),
        "seq": seq,
        "doubled": orders.amount(seq) * 2,
        "event_ts": agrees["event_ts"],
        "source_topic": source,
        "source_partition": partition,
        "source_offset": offset,
        "source_timestamp": agrees["source_timestamp"],
        "source_key": orders.key(seq),
        "source_headers": headers if header(headers) == str(seq) else {"n": str(seq)},
    }


def millis(value):
    """A timestamp as JSON has it, in milliseconds since 1970 UTC."""
    if isinstance(value, str):
        text = value.replace("Z", "+00:00")
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return round(moment.timestamp() * 1000)
    return value


def header(headers):
    if isinstance(headers, str):
        headers = json.loads(headers)
    return headers.get("n") if isinstance(headers, dict) else None


def wait_until(condition, seconds, what, seen=lambda: ""):
    """Waits for `condition` to become true; its answer. Fails after `seconds`, with what is `seen` then."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s for {what}\n{seen()}"
        time.sleep(0.05)
