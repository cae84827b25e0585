"""Records that are not what a table reads: at least 200 kinds of each format, as `(name, bytes or None)`.

The same kinds as `crates/laminar-formats/tests/poison`, whose `kinds.json` lists those that are no damage of a good record, for tests
that produce them to Kafka. `good` gives a record of `id BIGINT NOT NULL, name TEXT, price DOUBLE` in each format; SCHEMA is its
Protobuf message, AVRO its Avro schema.
"""

import json
import struct
from pathlib import Path

SCHEMA = "syntax = 'proto3'; message M { int64 id = 1; string name = 2; double price = 3; }"
AVRO = """{"type": "record", "name": "M", "fields": [{"name": "id", "type": "long"},
    {"name": "name", "type": ["null", "string"]}, {"name": "price", "type": ["null", "double"]}]}"""


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def good(format, id, name="some name of a length that makes many kinds of damage", price=-0.0125, schema=1):
    """A record that is none of the poison; `schema` is its id where it is framed."""
    if format == "json":
        return json.dumps({"id": id, "name": name, "price": price}).encode()
    if format == "csv":
        return f'{id},"{name}",{price}'.encode()
    if format == "protobuf":
        text = name.encode()
        return b"\x08" + varint(id) + b"\x12" + varint(len(text)) + text + b"\x19" + struct.pack("<d", price)
    if format == "avro":
        # Its union with null is a varint in front, 1 for the value; integers are zigzag.
        text = name.encode()
        return varint(2 * id) + b"\x02" + varint(2 * len(text)) + text + b"\x02" + struct.pack("<d", price)
    if format == "framed_avro":
        return b"\0" + schema.to_bytes(4, "big") + good("avro", id, name, price)
    raise ValueError(format)


KINDS = json.loads((Path(__file__).parents[3] / "laminar-formats/tests/poison/kinds.json").read_text())


def value(kind):
    """Its bytes: `text`, or in `hex`, or the pieces in `repeat`, each so many times."""
    if "repeat" in kind:
        return b"".join(bytes.fromhex(piece) * times for piece, times in kind["repeat"])
    return kind["text"].encode() if "text" in kind else bytes.fromhex(kind["hex"])


def listed(format, huge=True):
    """The kinds of one format, or with `None` those of all."""
    yield from ((k["name"], value(k)) for k in KINDS if k["format"] == format and (huge or not k.get("huge")))


def kinds(format, huge=True):
    """Yields every kind of damage, also some that leave a record good; `huge` includes those of 10 MB, which a topic must allow."""
    record = good(format, 1234567890)
    for at in range(len(record)):
        yield f"truncated at {at}", record[:at]
        yield f"0xff at {at}", record[:at] + b"\xff" + record[at + 1 :]
        yield f"zero before {at}", record[:at] + b"\0" + record[at:]
        yield f"top bit of {at}", record[:at] + bytes([record[at] ^ 0x80]) + record[at + 1 :]
    yield "twice", record + record
    yield "behind a byte order mark", b"\xef\xbb\xbf" + record
    yield "behind a frame", b"\0\0\0\0\x01\0" + record
    yield from listed(None, huge)
    yield from listed(format)
    yield "tombstone", None


def surely_bad(format):
    """Those kinds that are bad for certain, whatever the damage by chance leaves: what a test may count exactly."""
    record = good(format, 1234567890)
    sure = {
        # Of a Protobuf message each field that is whole is a message, so only cuts within a field are sure.
        "json": lambda: ((f"truncated at {at}", record[:at]) for at in range(len(record))),
        # An empty record is no row.
        "csv": lambda: ((f"truncated at {at}", record[:at]) for at in range(1, record.rindex(b",") + 1)),
        "protobuf": lambda: ((f"truncated at {at}", record[:at]) for at in range(8, record.index(b"\x19"))),
        "avro": lambda: ((f"truncated at {at}", record[:at]) for at in range(len(record))),
        "framed_avro": lambda: ((f"truncated at {at}", record[:at]) for at in range(len(record))),
    }
    yield from sure[format]()
    yield from listed(format)
    yield from (kind for kind in listed(None, huge=False) if kind[0] in ("text", "not UTF-8", "depth 10,000 of objects"))
    yield "tombstone", None
