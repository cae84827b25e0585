//! What a decoder compiled for each schema id, so that the registry is asked once an id and not once a record.

use std::collections::HashMap;
use std::sync::Arc;

use laminar_core::{Code, Result};

use super::{RegisteredSchema, SchemaKind, SchemaRegistry, frame::read_frame};
use crate::fault::{Fault, fault, outage};

/// Ids that are kept: noise that looks like frames must not fill the memory.
const MAX_IDS: usize = 1024;

/// Compiled schemas by id.
pub(crate) struct Programs<P> {
    registry: Arc<dyn SchemaRegistry>,
    kind: SchemaKind,
    compiled: Vec<P>,
    /// The id read last, and where its program is: nearly always the next one too.
    last: Option<(u32, usize)>,
    by_id: HashMap<u32, usize>,
    /// Why an id has no program. Forgotten with each batch: what is unknown today may be registered tomorrow.
    refused: HashMap<u32, String>,
}

impl<P> Programs<P> {
    pub fn new(registry: Arc<dyn SchemaRegistry>, kind: SchemaKind) -> Self {
        let (compiled, by_id, refused) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { registry, kind, compiled, last: None, by_id, refused }
    }

    /// The program for the record's schema and the index at which its body starts. `compile` is called once an id; its error
    /// is the record's fault.
    #[inline]
    pub fn of_record(
        &mut self,
        bytes: &[u8],
        compile: impl FnOnce(&RegisteredSchema) -> Result<P>,
    ) -> Result<(&mut P, usize), Fault> {
        let (id, body) = read_frame(bytes)?;
        let at = match self.last {
            Some((last, at)) if last == id => at,
            _ => self.find(id, compile)?,
        };
        match self.compiled.get_mut(at) {
            Some(program) => Ok((program, body)),
            None => Err(fault(1, "the schema's program is missing")),
        }
    }

    #[inline(never)]
    fn find(&mut self, id: u32, compile: impl FnOnce(&RegisteredSchema) -> Result<P>) -> Result<usize, Fault> {
        let at = match (self.by_id.get(&id), self.refused.get(&id)) {
            (Some(at), _) => *at,
            (None, Some(why)) => return Err(fault(1, why.clone())),
            (None, None) => self.compile(id, compile)?,
        };
        self.last = Some((id, at));
        Ok(at)
    }

    fn compile(&mut self, id: u32, compile: impl FnOnce(&RegisteredSchema) -> Result<P>) -> Result<usize, Fault> {
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
    fn refuse(&mut self, id: u32, why: String) -> Fault {
        if self.refused.len() < MAX_IDS {
            self.refused.insert(id, why.clone());
        }
        fault(1, why)
    }

    /// A batch ends.
    pub fn end_batch(&mut self) {
        self.refused.clear();
    }
}
