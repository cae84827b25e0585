//! What a decoder compiled for each schema id, so that the registry is asked once an id and not once a record.

use std::collections::HashMap;
use std::sync::Arc;

use laminar_core::{Code, Result};

use super::zlib::Inflater;
use super::{Body, Framing, RegisteredSchema, SchemaId, SchemaKind, SchemaRegistry};
use crate::fault::{Fault, fault, outage};

/// Ids that are kept: noise that looks like frames must not fill the memory.
const MAX_IDS: usize = 1024;

/// Compiled schemas by id.
pub(crate) struct Programs<P> {
    registry: Arc<dyn SchemaRegistry>,
    framing: Framing,
    kind: SchemaKind,
    compiled: Vec<P>,
    /// The id read last, and where its program is: nearly always the next one too.
    last: Option<(SchemaId, usize)>,
    by_id: HashMap<SchemaId, usize>,
    /// Why an id has no program. Forgotten with each batch: what is unknown today may be registered tomorrow.
    refused: HashMap<SchemaId, String>,
    /// There once a record was compressed.
    inflater: Option<Box<Inflater>>,
}

/// A record without its frame.
pub(crate) struct Framed<'a, P> {
    /// What was compiled for its schema.
    pub program: &'a mut P,
    /// The record, or its body where that was compressed.
    pub bytes: &'a [u8],
    /// The index of the body's first byte.
    pub at: usize,
}

impl<P> Programs<P> {
    pub fn new(registry: Arc<dyn SchemaRegistry>, kind: SchemaKind) -> Self {
        let (compiled, by_id, refused) = (Vec::new(), HashMap::new(), HashMap::new());
        let framing = registry.framing();
        Self { registry, framing, kind, compiled, last: None, by_id, refused, inflater: None }
    }

    /// How the registry frames records.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The program for the record's schema, and its body. `compile` is called once an id; its error is the record's fault.
    #[inline]
    pub fn of_record<'a>(
        &'a mut self,
        bytes: &'a [u8],
        compile: impl FnOnce(&RegisteredSchema) -> Result<P>,
    ) -> Result<Framed<'a, P>, Fault> {
        let (id, at, body) = self.framing.read(bytes)?;
        let place = match self.last {
            Some((last, place)) if last == id => place,
            _ => self.find(id, compile)?,
        };
        let Some(program) = self.compiled.get_mut(place) else {
            return Err(fault(1, "the schema's program is missing"));
        };
        match body {
            Body::Plain => Ok(Framed { program, bytes, at }),
            Body::Zlib => {
                let inflated = self.inflater.get_or_insert_default().body(bytes, at)?;
                Ok(Framed { program, bytes: inflated, at: 0 })
            }
        }
    }

    #[inline(never)]
    fn find(&mut self, id: SchemaId, compile: impl FnOnce(&RegisteredSchema) -> Result<P>) -> Result<usize, Fault> {
        let at = match (self.by_id.get(&id), self.refused.get(&id)) {
            (Some(at), _) => *at,
            (None, Some(why)) => return Err(fault(self.framing.id_at(), why.clone())),
            (None, None) => self.compile(id, compile)?,
        };
        self.last = Some((id, at));
        Ok(at)
    }

    fn compile(&mut self, id: SchemaId, compile: impl FnOnce(&RegisteredSchema) -> Result<P>) -> Result<usize, Fault> {
        let schema = match self.registry.schema(id) {
            Ok(schema) => schema,
            Err(error) if error.code() == Code::UnknownSchema => return Err(self.refuse(id, error.to_string())),
            Err(error) => return Err(outage(error)),
        };
        if schema.kind != self.kind {
            let (is, wanted) = (schema.kind.name(), self.kind.name());
            return Err(self.refuse(id, format!("schema {id} is {is}, and the table reads {wanted}")));
        }
        let program = compile(&schema).map_err(|error| self.refuse(id, format!("schema {id}: {error}")))?;
        if self.compiled.len() >= MAX_IDS {
            self.compiled.clear();
            self.by_id.clear();
        }
        self.compiled.push(program);
        let at = self.compiled.len() - 1;
        self.by_id.insert(id, at);
        Ok(at)
    }

    #[cold]
    fn refuse(&mut self, id: SchemaId, why: String) -> Fault {
        if self.refused.len() < MAX_IDS {
            self.refused.insert(id, why.clone());
        }
        fault(self.framing.id_at(), why)
    }

    /// A batch ends.
    pub fn end_batch(&mut self) {
        self.refused.clear();
        if let Some(inflater) = &mut self.inflater {
            inflater.end_batch();
        }
    }
}
