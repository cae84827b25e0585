"""Records that are not what a table reads: hundreds of kinds of each format, and what an independent reader says of them.

The same kinds as `crates/laminar-formats/tests/poison`, whose `kinds.json` lists those that are no damage of a good record. The table is
`id BIGINT NOT NULL, name TEXT, price DOUBLE`. A format knows how to write a good record, and at which stage one is bad:
`decode`, `constraint`, or None for one that may be good.
"""

import io
import json
import math
import struct
from pathlib import Path

import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf.message import DecodeError

from messages import Field, field, messages


class Json:
    name, own = "json", []
    options = "format = 'json'"

    def encode(self, id, name, price):
        return json.dumps({"id": id, "name": name, "price": price}).encode()

    def stage(self, value):
        try:
            record = json.loads(value.decode(), parse_constant=fail)
            record["name"].encode()
        except (ValueError, RecursionError):
            return "decode"
        except (KeyError, TypeError, AttributeError):
            pass
        if not isinstance(record, dict):
            return "decode"
        id, price = record.get("id"), record.get("price", 0)
        if (id is not None and type(id) is not int) or abs(id or 0) > 1 << 63 or id == 1 << 63 or math.isinf(price):
            return "decode"
        return "constraint" if id is None else None


class Csv:
    name, own = "csv", []
    options = "format = 'csv'"

    def encode(self, id, name, price):
        return f'{id},"{name}",{price}'.encode()

    def stage(self, value):
        """Python's own reader takes nearly everything; so this says only what must be bad."""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return "decode"
        if text.split(",")[0].rstrip("\n") == "":
            return "constraint"  # NULL is found out before what is missing behind it
        special = value in [bad for _, bad in listed("csv")]
        return "decode" if special or text.count(",") < 2 or text.count('"') % 2 else None


class Protobuf:
    name, own = "protobuf", []
    SCHEMA = "syntax = 'proto3'; message M { int64 id = 1; string name = 2; double price = 3; }"
    options = f"""format = 'protobuf', protobuf.schema = '{SCHEMA.replace("'", '"')}', protobuf.message = 'M'"""

    def __init__(self):
        fields = [field("id", 1, Field.TYPE_INT64), field("name", 2, Field.TYPE_STRING), field("price", 3, Field.TYPE_DOUBLE)]
        self.message = messages("poison.proto", "", M=fields)["M"]

    def encode(self, id, name, price):
        return self.message(id=id, name=name, price=price).SerializeToString()

    def stage(self, value):
        try:
            self.message.FromString(value)
        except DecodeError:
            return "decode"
        return None


class Avro:
    """With a schema registry: each record begins with a zero byte and the id of its schema."""

    name = "framed_avro"

    def __init__(self, registry_url, subject):
        self.client = SchemaRegistryClient({"url": registry_url})
        self.options = f"format = 'avro', 'schema_registry.endpoint' = '{registry_url}'"
        fields = [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}, {"name": "price", "type": "double"}]
        self.schema = {"type": "record", "name": "M", "fields": fields}
        self.id = self.register(subject, self.schema)
        self.without_id = {**self.schema, "fields": fields[1:]}
        self.other_id = self.register(f"{subject}-other", self.without_id)
        body = self.encode(1, "x", 1.0)[5:]
        self.own = [
            ("magic byte missing", self.encode(1, "x", 1.0)[1:]),
            ("another magic byte", b"\1" + self.encode(1, "x", 1.0)[1:]),
            ("no frame", body),
            ("wrong schema id", struct.pack(">bI", 0, 0x7FFFFFFF) + body),
            ("negative schema id", struct.pack(">bi", 0, -1) + body),
            ("a schema without the column", self.framed(self.other_id, self.without_id, {"name": "x", "price": 1.0})),
            ("JSON in a frame", struct.pack(">bI", 0, self.id) + b'{"id":1}'),
        ]

    def register(self, subject, schema):
        return self.client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))

    def encode(self, id, name, price):
        return self.framed(self.id, self.schema, {"id": id, "name": name, "price": price})

    def framed(self, id, schema, record):
        out = io.BytesIO(struct.pack(">bI", 0, id))
        out.seek(5)
        fastavro.schemaless_writer(out, schema, record)
        return out.getvalue()

    def stage(self, value):
        if len(value) < 5 or value[0] != 0:
            return "decode"
        id = struct.unpack(">I", value[1:5])[0]
        if id == self.other_id:
            return "constraint"
        if id != self.id:
            return None if self.is_known(id) else "decode"
        body = io.BytesIO(value[5:])
        try:
            fastavro.schemaless_reader(body, self.schema)
        except Exception:  # noqa: BLE001  it has no kind of its own
            return "decode"
        return "decode" if body.read() else None

    def is_known(self, id):
        try:
            return self.client.get_schema(id) is not None
        except SchemaRegistryError:
            return False


def fail(what):
    raise ValueError(what)


KINDS = json.loads((Path(__file__).parents[3] / "laminar-formats/tests/poison/kinds.json").read_text())


def listed(format, huge=False):
    """The kinds of one format, or with `None` those of all."""
    return [(kind["name"], listed_value(kind)) for kind in KINDS if kind["format"] == format and kind.get("huge", False) == huge]


def listed_value(kind):
    """Its bytes: `text`, or in `hex`, or the pieces in `repeat`, each so many times."""
    if "repeat" in kind:
        return b"".join(bytes.fromhex(piece) * times for piece, times in kind["repeat"])
    return kind["text"].encode() if "text" in kind else bytes.fromhex(kind["hex"])


HUGE = listed(None, huge=True)


def kinds(format):
    """Every kind but the huge ones that the format's independent reader says is bad: `(name, bytes or None, stage)`."""
    record = format.encode(1234567890, "some name of a length that makes many kinds of damage", -0.0125)

    def damaged():
        for at in range(len(record)):
            yield f"truncated at {at}", record[:at]
            yield f"0xff at {at}", record[:at] + b"\xff" + record[at + 1 :]
            yield f"zero before {at}", record[:at] + b"\0" + record[at:]
            yield f"top bit of {at}", record[:at] + bytes([record[at] ^ 0x80]) + record[at + 1 :]
        yield "twice", record + record
        yield "behind a byte order mark", b"\xef\xbb\xbf" + record
        yield "behind a frame", b"\0\0\0\0\x01\0" + record

    judged = ((name, value, format.stage(value)) for name, value in [*damaged(), *listed(None), *listed(format.name), *format.own])
    return [kind for kind in judged if kind[2]] + [("tombstone", None, "decode")]
