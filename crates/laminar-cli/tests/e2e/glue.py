"""AWS Glue's schema registry as an independent client sees it: moto is the registry, boto3 asks it, and frames are made by hand."""

import io
import os
import socket
import subprocess
import sys
import uuid
import zlib

import boto3
import fastavro
from botocore.config import Config

from laminar import free_port
from orders import wait_until

REGION = "eu-west-1"
# Anybody's: moto checks that a request is signed, and by nobody in particular.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "do-not-show", "AWS_EC2_METADATA_DISABLED": "true"}
HEADER, PLAIN, ZLIB = 3, 0, 5


class Glue:
    """A server of its own, so that it can be killed."""

    def __init__(self, folder, broker):
        self.broker = broker
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "moto.log"
        self.child = None
        config = Config(region_name=REGION, retries={"max_attempts": 0})
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.client = boto3.client("glue", endpoint_url=self.url, config=config, **keys)

    def start(self):
        """What it knew before is gone: moto remembers nothing."""
        with open(self.log, "ab") as log:
            command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(self.port)]
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))
        wait_until(self.listens, 60, "moto", lambda: self.log.read_text()[-2000:])
        return self

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait(30)

    def topic(self, prefix):
        return self.broker.create_topic(prefix, partitions=1)

    def create(self, name, kind, text):
        """The version of a new schema."""
        made = self.client.create_schema(SchemaName=name, DataFormat=kind, Compatibility="NONE", SchemaDefinition=text)
        return uuid.UUID(made["SchemaVersionId"])

    def add(self, name, text):
        """The next version of a schema."""
        which = {"RegistryName": "default-registry", "SchemaName": name}
        return uuid.UUID(self.client.register_schema_version(SchemaId=which, SchemaDefinition=text)["SchemaVersionId"])

    def version(self, which):
        """A version by its UUID."""
        return self.client.get_schema_version(SchemaVersionId=str(which))

    def write(self, topic, values):
        producer = self.broker.producer()
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(30) == 0

    def read(self, topic, count):
        """Key and value of the first `count` committed records."""
        consumer = self.broker.reader(topic, lambda message: (message.key(), message.value()))
        assert consumer.wait_for(count, 60), consumer.kept
        consumer.close()
        return consumer.kept[:count]

    def options(self, topic, format, **more):
        """Of a table, as they stand in WITH (…)."""
        options = {"connector": "kafka", "bootstrap_servers": self.broker.address, "topic": topic, "format": format}
        options |= {"schema_registry.type": "glue", "schema_registry.region": REGION, "schema_registry.endpoint": self.url}
        return ", ".join(f"'{name}' = '{value}'" for name, value in {**options, **more}.items())


def framed(version, body, compression=PLAIN):
    return bytes([HEADER, compression]) + version.bytes + (zlib.compress(body) if compression == ZLIB else body)


def unframed(value):
    """The UUID of the schema's version, the compression and the body."""
    assert value[0] == HEADER, value
    body = zlib.decompress(value[18:]) if value[1] == ZLIB else value[18:]
    return uuid.UUID(bytes=value[2:18]), value[1], body


def avro(schema, record):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def from_avro(schema, body):
    rest = io.BytesIO(body)
    record = fastavro.schemaless_reader(rest, fastavro.parse_schema(schema), None)
    assert not rest.read(), "bytes follow the record"
    return record
