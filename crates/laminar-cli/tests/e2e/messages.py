"""Protobuf messages made from descriptors built here, so that no protoc is needed."""

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2

Field = descriptor_pb2.FieldDescriptorProto


def messages(file, package, imports=(), **types):
    """Message classes of a file: each type a list of (name, number, type, label, type name, optional)."""
    proto = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3", dependency=list(imports))
    for name, fields in types.items():
        message = proto.message_type.add(name=name)
        for field in fields:
            added = message.field.add(**{key: value for key, value in field.items() if key != "optional"})
            if field.get("optional"):
                added.proto3_optional = True
                added.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field['name']}")
    pool = descriptor_pool.DescriptorPool()
    for needed in (timestamp_pb2, duration_pb2):
        pool.AddSerializedFile(needed.DESCRIPTOR.serialized_pb)
    pool.Add(proto)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}".lstrip("."))) for name in types}


def field(name, number, type, **more):
    return {"name": name, "number": number, "type": type, "label": Field.LABEL_OPTIONAL, **more}


def repeated(name, number, type, **more):
    return {**field(name, number, type, **more), "label": Field.LABEL_REPEATED}
