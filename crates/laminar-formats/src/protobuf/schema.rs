//! A message's descriptor from what a user gives: the text of a `.proto` file, a descriptor set, or what the registry keeps.
//!
//! The rule: a schema is input like any other, also one from a registry. Its size and how deep it nests are bounded before it is
//! parsed.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Result};
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::registry::{Framing, MessageIndex, RegisteredSchema};

/// What the text of option `protobuf.schema` is called in messages.
const TEXT_NAME: &str = "protobuf.schema";
/// A longer schema is refused.
const MAX_SCHEMA_BYTES: usize = 4 << 20;
/// Braces within braces that a schema may have; the parser goes down as deep as they do.
const MAX_BRACES: usize = 64;
/// Files that one schema may import, directly or through others.
const MAX_IMPORTS: usize = 256;

/// A file's messages, or those of a whole descriptor set.
#[derive(Clone)]
pub(crate) struct Schema {
    pool: DescriptorPool,
    file: Option<FileDescriptor>,
}

impl Schema {
    /// The text of a `.proto` file, or a descriptor set in base64.
    ///
    /// Errors: `invalid_schema`, with the place in the text.
    pub fn parse(text: &str) -> Result<Self> {
        check_size(text.len())?;
        if is_base64(text) {
            let joined: String = text.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(joined).map_err(|error| {
                invalid("the schema is neither the text of a .proto file nor a descriptor set in base64")
                    .with_detail(error.to_string())
            })?;
            return Self::from_set(&bytes);
        }
        Self::compile(TEXT_NAME, text, &HashMap::new())
    }

    /// A `google.protobuf.FileDescriptorSet`, as `protoc --include_imports -o` and `buf build -o` write it.
    pub fn from_set(bytes: &[u8]) -> Result<Self> {
        check_size(bytes.len())?;
        let pool = DescriptorPool::decode(bytes).map_err(|error| {
            invalid("the descriptor set is not one")
                .with_detail(error.to_string())
                .with_hint("protoc --include_imports -o FILE makes one")
        })?;
        Ok(Self { pool, file: None })
    }

    /// The text of the file `name`, which imports `others` by their paths.
    pub fn compile(name: &str, text: &str, others: &HashMap<String, String>) -> Result<Self> {
        if others.len() > MAX_IMPORTS {
            return Err(invalid(format!("the schema imports more than {MAX_IMPORTS} files")));
        }
        for text in others.values().map(String::as_str).chain([text]) {
            check_size(text.len())?;
            check_depth(text)?;
        }
        let mut files = others.clone();
        files.insert(name.to_string(), text.to_string());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        // The debug form has the line and column.
        compiler
            .open_file(name)
            .map_err(|error| invalid("the Protobuf schema is not valid").with_detail(format!("{error:?}")))?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(name);
        Ok(Self { pool, file })
    }

    /// What the registry keeps: the text of a `.proto` file, or the file's descriptor in base64, as some clients register it.
    ///
    /// Errors: `invalid_schema`.
    pub fn registered(schema: &RegisteredSchema) -> Result<Self> {
        let others = schema.references.iter().map(|other| (other.name.clone(), other.text.clone())).collect();
        Self::compile(&format!("schema-{}.proto", schema.id), &schema.text, &others)
    }

    /// Was it a descriptor set, which has no text?
    pub fn is_set(&self) -> bool {
        self.file.is_none()
    }

    /// Like [`message`](Self::message), but the file's first without a name, as framing has it.
    pub fn message_or_first(&self, name: Option<&str>) -> Result<MessageDescriptor> {
        if name.is_some() { self.message(name) } else { self.at_path(&[0]) }
    }

    /// The message of this name, full or, where only one has it, without its package; without a name, the only message there is.
    ///
    /// Errors: `invalid_option` and `missing_option`, with the names that there are.
    pub fn message(&self, name: Option<&str>) -> Result<MessageDescriptor> {
        let all = || self.pool.all_messages().filter(|m| !m.is_map_entry() && m.package_name() != "google.protobuf");
        let names = || all().map(|message| message.full_name().to_string()).collect::<Vec<_>>();
        let Some(name) = name else {
            let mut top: Vec<MessageDescriptor> = match &self.file {
                Some(file) => file.messages().collect(),
                None => all().filter(|message| message.parent_message().is_none()).collect(),
            };
            return match (top.pop(), top.is_empty()) {
                (Some(only), true) => Ok(only),
                (None, _) => Err(invalid("the schema has no message")),
                _ => Err(Error::new(
                    Code::MissingOption,
                    "the schema has several messages, so option protobuf.message is needed",
                )
                .with_hint(format!("messages: {}", names().join(", ")))
                .with_field("protobuf.message")),
            };
        };
        if let Some(message) = self.pool.get_message_by_name(name) {
            return Ok(message);
        }
        let mut same: Vec<MessageDescriptor> = all().filter(|message| message.name() == name).collect();
        if let (Some(only), true) = (same.pop(), same.is_empty()) {
            return Ok(only);
        }
        let names = names();
        let error =
            Error::new(Code::InvalidOption, format!("the schema has no message {name}")).with_field("protobuf.message");
        Err(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error.with_hint(format!("messages: {}", names.join(", "))),
        })
    }

    /// The message that a framed record's index means.
    ///
    /// Errors: `invalid_schema` if there is none.
    pub fn message_at(&self, index: &MessageIndex) -> Result<MessageDescriptor> {
        match index {
            MessageIndex::Path(path) => self.at_path(path),
            MessageIndex::Place(place) => {
                let none = || invalid(format!("the schema has no message number {place}"));
                by_name(self.file.as_ref().ok_or_else(none)?).into_iter().nth(*place).ok_or_else(none)
            }
        }
    }

    /// The message at a path of indices, from the file's messages down.
    fn at_path(&self, path: &[usize]) -> Result<MessageDescriptor> {
        let none = || invalid(format!("the schema has no message at index {path:?}"));
        let (first, rest) = path.split_first().ok_or_else(none)?;
        let file = self.file.as_ref().ok_or_else(none)?;
        let mut message = file.messages().nth(*first).ok_or_else(none)?;
        for index in rest {
            let child = message.child_messages().nth(*index);
            message = child.ok_or_else(none)?;
        }
        Ok(message)
    }
}

/// Which message of its file it is, as the framing says it: the inverse of [`Schema::message_at`].
pub(crate) fn index_of(message: &MessageDescriptor, framing: Framing) -> MessageIndex {
    match framing {
        Framing::Confluent => MessageIndex::Path(path_of(message)),
        Framing::Glue => {
            let all = by_name(&message.parent_file());
            MessageIndex::Place(all.iter().position(|other| other == message).unwrap_or(0))
        }
    }
}

/// All messages of the file by their full names, those within others and the entries of maps included, as Glue counts them.
fn by_name(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    let mut all: Vec<MessageDescriptor> = file.messages().collect();
    let mut next = 0;
    while let Some(message) = all.get(next) {
        let children: Vec<_> = message.child_messages().collect();
        all.extend(children);
        next += 1;
    }
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    all
}

fn path_of(message: &MessageDescriptor) -> Vec<usize> {
    let position = |mut all: Box<dyn Iterator<Item = MessageDescriptor>>| all.position(|other| other == *message);
    match message.parent_message() {
        Some(parent) => {
            let mut path = path_of(&parent);
            let all: Vec<_> = parent.child_messages().collect();
            path.push(position(Box::new(all.into_iter())).unwrap_or(0));
            path
        }
        None => {
            let all: Vec<_> = message.parent_file().messages().collect();
            vec![position(Box::new(all.into_iter())).unwrap_or(0)]
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidSchema, message).with_field("protobuf.schema")
}

fn check_size(bytes: usize) -> Result<()> {
    if bytes <= MAX_SCHEMA_BYTES {
        return Ok(());
    }
    Err(invalid(format!("the Protobuf schema has {bytes} bytes, more than the {MAX_SCHEMA_BYTES} that are allowed")))
}

/// Counts brackets wherever they stand: a bit too strict for strings and comments that have many of them.
fn check_depth(text: &str) -> Result<()> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'(' | b'[' | b'<' => depth += 1,
            b'}' | b')' | b']' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACES {
            return Err(invalid(format!("the Protobuf schema nests deeper than {MAX_BRACES} levels")));
        }
    }
    Ok(())
}

/// No `.proto` file has only such characters.
fn is_base64(text: &str) -> bool {
    let text = text.trim();
    let is = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n' | '\r');
    !text.is_empty() && text.chars().all(is)
}

/// Files that are texts in memory, or descriptors in base64.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) if is_base64(text) => {
                let bytes = STANDARD.decode(text.trim()).map_err(protox::Error::new)?;
                let mut file = FileDescriptorProto::decode(bytes.as_slice()).map_err(protox::Error::new)?;
                // Others import it by this name.
                file.name = Some(name.to_string());
                Ok(File::from_file_descriptor_proto(file))
            }
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "syntax = 'proto3'; package shop;
        message Order { string id = 1; message Line { int32 n = 1; } repeated Line lines = 2; }
        message Refund { message Line { int32 n = 1; } }";

    #[track_caller]
    fn check_error<T>(result: Result<T>, expected: &str) {
        assert_eq!(format!("{:?}", result.err().expect("refused")), expected);
    }

    #[test]
    fn a_message_is_found_by_its_name_or_its_path() {
        let schema = Schema::parse(TEXT).unwrap();
        assert_eq!(schema.message(Some("shop.Order")).unwrap().full_name(), "shop.Order");
        assert_eq!(schema.message(Some("Refund")).unwrap().full_name(), "shop.Refund");
        for path in [vec![0], vec![1], vec![0, 0], vec![1, 0]] {
            let index = MessageIndex::Path(path);
            assert_eq!(index_of(&schema.message_at(&index).unwrap(), Framing::Confluent), index);
        }
        assert!(schema.at_path(&[2]).is_err());
        assert!(schema.at_path(&[0, 0, 0]).is_err());
        check_error(
            schema.message(None),
            "missing_option: the schema has several messages, so option protobuf.message is needed \
             (hint: messages: shop.Order, shop.Order.Line, shop.Refund, shop.Refund.Line)",
        );
        check_error(
            schema.message(Some("shop.Ordr")),
            "invalid_option: the schema has no message shop.Ordr (hint: did you mean shop.Order?)",
        );
        assert!(schema.message(Some("Line")).is_err());
    }

    /// The example of awslabs' `MessageIndexFinder`, and the entry of a map, which is a message of its own.
    #[test]
    fn glue_numbers_messages_by_their_names() {
        let schema = Schema::parse(
            "syntax = 'proto3'; message B { message C {} message A { message D {} } map<string, int32> m = 1; }",
        );
        let schema = schema.unwrap();
        for (place, name) in ["B", "B.A", "B.A.D", "B.C", "B.MEntry"].into_iter().enumerate() {
            let index = MessageIndex::Place(place);
            let message = schema.message_at(&index).unwrap();
            assert_eq!(message.full_name(), name);
            assert_eq!(index_of(&message, Framing::Glue), index);
        }
        assert!(schema.message_at(&MessageIndex::Place(5)).is_err());
    }

    #[test]
    fn a_descriptor_set_says_the_same_as_the_text() {
        let set = Schema::parse(TEXT).unwrap().pool.encode_to_vec();
        let schema = Schema::parse(&STANDARD.encode(set)).unwrap();
        assert_eq!(schema.message(Some("shop.Order.Line")).unwrap().fields().count(), 1);
    }

    #[test]
    fn a_schema_that_is_none_says_where() {
        check_error(
            Schema::parse("syntax = 'proto3';\nmessage A { strin id = 1; }"),
            "invalid_schema: the Protobuf schema is not valid: protobuf.schema:2:13: name 'strin' is not defined",
        );
        assert!(Schema::parse("message A { int32 a = 1 }").is_err());
        assert!(Schema::parse("import 'other.proto'; message A {}").is_err());
        assert!(Schema::parse("").and_then(|schema| schema.message(None)).is_err());
        assert!(Schema::parse("abcd").is_err());
    }

    #[test]
    fn a_schema_cannot_exhaust_the_stack() {
        let deep = format!("syntax = 'proto3'; {}{}", "message A { ".repeat(100_000), "}".repeat(100_000));
        check_error(Schema::parse(&deep), "invalid_schema: the Protobuf schema nests deeper than 64 levels");
        assert!(Schema::parse(&"message A {}\n".repeat(1 << 20)).is_err());
    }
}
