"""A schema registry as an independent client sees it: topics written and read with confluent-kafka's serialisers."""

import json

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from orders import wait_until


class Registry:
    def __init__(self, url, broker):
        self.url = url
        self.broker = broker
        self.client = SchemaRegistryClient({"url": url})

    def topic(self, prefix):
        return self.broker.create_topic(prefix, partitions=1)

    def avro_writer(self, schema):
        return AvroSerializer(self.client, json.dumps(schema))

    def avro_reader(self, schema=None):
        """Of records as a reader with this schema sees them."""
        return AvroDeserializer(self.client, json.dumps(schema) if schema else None)

    def protobuf_writer(self, kind):
        return ProtobufSerializer(kind, self.client, {"use.deprecated.format": False})

    def write(self, topic, writer, records):
        """Records that are bytes are written as they are."""
        producer, context = self.broker.producer(), SerializationContext(topic, MessageField.VALUE)
        for record in records:
            producer.produce(topic, record if isinstance(record, bytes) else writer(record, context))
        assert producer.flush(30) == 0

    def read(self, topic, reader, count):
        """The first `count` committed records."""
        context = SerializationContext(topic, MessageField.VALUE)
        consumer = self.broker.reader(topic, lambda message: reader(message.value(), context))
        assert consumer.wait_for(count, 60), consumer.kept
        consumer.close()
        return consumer.kept[:count]

    def subjects(self):
        return self.client.get_subjects()

    def options(self, topic, format, **more):
        """Of a table, as they stand in WITH (…)."""
        options = {"connector": "kafka", "bootstrap_servers": self.broker.address, "topic": topic, "format": format}
        options["schema_registry.endpoint"] = self.url
        return ", ".join(f"'{name}' = '{value}'" for name, value in {**options, **more}.items())


def rows(server, pipeline, count):
    """The rows of a pipeline without a sink, once there are as many."""
    return wait_until(
        lambda: (found := server.sql(f"SELECT * FROM {pipeline}")["rows"]) and len(found) >= count and sorted(found),
        60,
        f"{count} rows of {pipeline}",
        lambda: server.sql("SELECT * FROM system.jobs"),
    )
