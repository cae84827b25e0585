//! The port to a schema registry: schemas by id for what is read, ids of schemas for what is written.
//!
//! ```text
//!  record  00 | id, 4 bytes big-endian | body              frame: reading and writing that prefix, of each registry's own;
//!          03 | compression | UUID, 16 bytes | body        zlib: compressed bodies; framing: the frame of a sink
//!                    │
//!                    ▼
//!  Programs: what was compiled for the id, or else ─► SchemaRegistry::schema(id), once an id
//! ```
//!
//! The rule that must stay true: **a registry that is away is never the record's fault.** Its error travels as
//! [`DecodeError::outage`](laminar_core::format::DecodeError::outage), which stops the job to be retried; a record whose id the registry does not know is a bad
//! record.
//!
//! Formats do not know which registry it is: its [`Framing`] reads and writes what differs. The client is in `laminar-connectors`; nothing here knows the network.

mod frame;
mod framing;
mod id;
mod options;
mod programs;
mod zlib;

use std::fmt::Debug;
use std::sync::Arc;

use laminar_core::Result;

pub use crate::avro::avro_columns;
pub(crate) use frame::looks_framed;
pub use frame::{Body, Framing, GLUE_HEADER, MAGIC, MessageIndex};
pub(crate) use framing::Frame;
pub use id::SchemaId;
pub(crate) use id::uuid_text;
pub use options::{Compression, RegistryKind, RegistryOptions, SubjectStrategy};
pub(crate) use programs::{Framed, Programs};

/// A registry of schemas, as formats need it.
///
/// Calls may wait for the network, so callers ask once an id and keep the answer; implementations cache too. Safe to call from
/// any thread, also one of an async runtime.
///
/// Errors: `unknown_schema` where the registry answers that there is none; `unreachable`, `timeout`, `authentication_failed`
/// and `connector_error` where it gives no answer; `incompatible_schema` from [`register`](Self::register).
pub trait SchemaRegistry: Debug + Send + Sync {
    /// The schema of this id, with all that it refers to.
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>>;
    /// The newest schema under the subject. Never cached.
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>>;
    /// The id of this schema under the subject; registers it there if it is new.
    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId>;
    /// The id of this schema under the subject; `unknown_schema` if it is not registered there.
    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId>;
    /// What its clients write in front of records.
    fn framing(&self) -> Framing {
        Framing::Confluent
    }
}

/// What a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// Avro's JSON.
    Avro,
    /// A `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::Json => "JSON Schema",
        }
    }
}

/// A schema as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaText {
    pub kind: SchemaKind,
    pub text: String,
}

/// A schema as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    pub id: SchemaId,
    pub kind: SchemaKind,
    pub text: String,
    /// All that it refers to, directly or through others, each once, and before what refers to it.
    pub references: Vec<ReferencedSchema>,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencedSchema {
    /// What the other calls it: an Avro type's full name, the path of a Protobuf import.
    pub name: String,
    pub text: String,
}

/// A part of a record that has a schema of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    Value,
    Key,
}

/// A table's registry: the port, and under which subjects its schemas stand there.
#[derive(Clone, Debug)]
pub struct TableRegistry {
    pub registry: Arc<dyn SchemaRegistry>,
    /// Of which part of the records the schemas are.
    pub part: Part,
    /// Where the table's records are; subjects are named after it.
    pub topic: String,
    pub options: RegistryOptions,
}

impl TableRegistry {
    /// The same for the keys.
    pub fn of_keys(&self) -> Self {
        Self { part: Part::Key, ..self.clone() }
    }

    fn given_subject(&self) -> Option<&String> {
        match self.part {
            Part::Value => self.options.value_subject.as_ref(),
            Part::Key => self.options.key_subject.as_ref(),
        }
    }

    /// The subject of the part's schema, whose full name (of the record, of the message) is `name`.
    pub fn subject(&self, name: &str) -> String {
        if let Some(subject) = self.given_subject() {
            return subject.clone();
        }
        match self.options.strategy {
            SubjectStrategy::TopicName => match (self.registry.framing(), self.part) {
                (_, Part::Key) => format!("{}-key", self.topic),
                (Framing::Confluent, Part::Value) => format!("{}-value", self.topic),
                // As Glue's own serialisers name schemas.
                (Framing::Glue, Part::Value) => self.topic.clone(),
            },
            SubjectStrategy::RecordName => name.to_string(),
            SubjectStrategy::TopicRecordName => format!("{}-{name}", self.topic),
        }
    }

    /// The subject, where it is not named after a record or message that is yet to come.
    pub fn known_subject(&self) -> Option<String> {
        let named = self.given_subject().is_some() || self.options.strategy == SubjectStrategy::TopicName;
        named.then(|| self.subject(""))
    }

    /// The id under which a sink writes: registered, or only looked up if the table says so.
    pub fn id_for_writing(&self, name: &str, schema: &SchemaText) -> Result<SchemaId> {
        let subject = self.subject(name);
        match self.options.register {
            true => self.registry.register(&subject, schema),
            false => self.registry.find(&subject, schema),
        }
    }

    /// How a sink's bodies stand behind their frame. Keys are never compressed: partitions and compaction compare their bytes, and another
    /// version of a compressor may make others of the same key.
    fn body(&self) -> Body {
        match (self.registry.framing(), self.options.compression, self.part) {
            (Framing::Glue, Some(Compression::Zlib), Part::Value) => Body::Zlib,
            _ => Body::Plain,
        }
    }
}
