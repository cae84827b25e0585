"""Records that are not what a table reads: at least 200 kinds of each format, as `(name, bytes or None)`.

The same kinds as `crates/laminar-formats/tests/poison`, for tests that produce them to Kafka. `good` gives a record of
`id BIGINT NOT NULL, name TEXT, price DOUBLE` in each format; SCHEMA is its Protobuf message.
"""

import json
import struct

SCHEMA = "syntax = 'proto3'; message M { int64 id = 1; string name = 2; double price = 3; }"


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def good(format, id, name="some name of a length that makes many kinds of damage", price=-0.0125):
    """A record that is none of the poison."""
    if format == "json":
        return json.dumps({"id": id, "name": name, "price": price}).encode()
    if format == "csv":
        return f'{id},"{name}",{price}'.encode()
    if format == "protobuf":
        text = name.encode()
        return b"\x08" + varint(id) + b"\x12" + varint(len(text)) + text + b"\x19" + struct.pack("<d", price)
    raise ValueError(format)


COMMON = [
    ("empty", b""),
    ("space", b" "),
    ("line break", b"\n"),
    ("zero byte", b"\0"),
    ("byte order mark", b"\xef\xbb\xbf"),
    ("UTF-16", b"\xff\xfe{\0}\0"),
    ("null", b"null"),
    ("NaN", b"NaN"),
    ("text", b"poison"),
    ("not UTF-8", b"\xff\xfe\xfd"),
    ("array", b"[1,2]"),
    ("HTML", b"<html></html>"),
    ("magic byte and no id", b"\0\0\0"),
    ("unknown schema id", b"\0\x7f\xff\xff\xff\0"),
    ("depth 10,000", b"[" * 10_000 + b"]" * 10_000),
    ("depth 10,000 of objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    ("depth 10,000 of groups", b"\x0b" * 10_000),
    ("a length of 2^64", b"\x12" + b"\xff" * 9 + b"\x01"),
    ("a length of 2^31", b"\x12\xff\xff\xff\xff\x07abc"),
    ("a varint of 20 bytes", b"\x08" + b"\xff" * 20),
]

SPECIAL = {
    "json": [
        ("a number that is none", b'{"id":NaN,"name":"x","price":1}'),
        ("overflow", b'{"id":9223372036854775808,"name":"x","price":1}'),
        ("underflow", b'{"id":-9223372036854775809,"name":"x","price":1}'),
        ("a double beyond all", b'{"id":1,"name":"x","price":1e400}'),
        ("fraction", b'{"id":1.5,"name":"x","price":1}'),
        ("text for a number", b'{"id":"one","name":"x","price":1}'),
        ("null in NOT NULL", b'{"id":null,"name":"x","price":1}'),
        ("no value for NOT NULL", b'{"name":"x","price":1}'),
        ("single quotes", b"{'id':1}"),
        ("trailing comma", b'{"id":1,}'),
        ("half a surrogate", b'{"id":1,"name":"\\ud800","price":1}'),
        ("control character", b'{"id":1,"name":"a\nb","price":1}'),
        ("leading zero", b'{"id":01,"name":"x","price":1}'),
        ("text behind", b'{"id":1,"name":"x","price":1}x'),
    ],
    "csv": [
        ("overflow", b"9223372036854775808,x,1"),
        ("text for a number", b"one,x,1"),
        ("null in NOT NULL", b",x,1"),
        ("too few", b"1,x"),
        ("too many", b"1,x,1,1"),
        ("quote within", b'1,x"y,1'),
        ("text behind a quote", b'1,"x"y,1'),
        ("open quote", b'1,"x,1'),
        ("line break within", b"1,x\ny,1"),
    ],
    "protobuf": [
        ("another wire type", b"\x0a\x01x"),
        ("no such wire type", b"\x0e\x01"),
        ("field 0", b"\x00\x01"),
        ("end of no group", b"\x0c"),
        ("open group", b"\x0b\x08\x01"),
        ("text that is none", b"\x12\x02\xff\xfe"),
        ("a double cut off", b"\x19\0\0\0"),
        ("JSON", b'{"id":1}'),
    ],
}


def kinds(format, huge=True):
    """Yields every kind of damage, also some that leave a record good; `huge` includes those of 10 MB, which a topic must allow."""
    record = good(format, 1234567890)
    for at in range(len(record)):
        yield f"truncated at {at}", record[:at]
        yield f"0xff at {at}", record[:at] + b"\xff" + record[at + 1 :]
        yield f"zero before {at}", record[:at] + b"\0" + record[at:]
        yield f"top bit of {at}", record[:at] + bytes([record[at] ^ 0x80]) + record[at + 1 :]
    yield from COMMON
    yield "twice", record + record
    yield "behind a byte order mark", b"\xef\xbb\xbf" + record
    yield "behind a frame", b"\0\0\0\0\x01\0" + record
    if huge:
        yield "10 MB of zeros", bytes(10 << 20)
        yield "10 MB of braces", b"{" * (10 << 20)
        yield "10 MB of 0xff", b"\xff" * (10 << 20)
    yield from SPECIAL[format]
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
    }
    yield from sure[format]()
    yield from SPECIAL[format]
    yield from (kind for kind in COMMON if kind[0] in ("text", "not UTF-8", "depth 10,000 of objects"))
    yield "tombstone", None
