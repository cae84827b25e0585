//! A registry in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use laminar_core::{Code, Error, Result};
use laminar_formats::FormatContext;
use laminar_formats::registry::{
    Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};

/// A registry in memory, which can be away.
#[derive(Debug, Default)]
pub struct Memory {
    schemas: Mutex<Vec<(String, SchemaText)>>,
    pub down: AtomicBool,
    pub asked: AtomicUsize,
}

impl Memory {
    pub fn context(self: &Arc<Self>, options: RegistryOptions) -> FormatContext {
        let registry: Arc<dyn SchemaRegistry> = Arc::<Self>::clone(self);
        FormatContext { registry: Some(TableRegistry { registry, part: Part::Value, topic: "t".into(), options }) }
    }
    pub fn add(&self, subject: &str, kind: SchemaKind, text: &str) -> u32 {
        match self.register(subject, &SchemaText { kind, text: text.into() }).unwrap() {
            SchemaId::Number(id) => id,
            SchemaId::Version(_) => unreachable!("ids are numbers here"),
        }
    }
    fn answer<T>(&self, answer: impl FnOnce(&Vec<(String, SchemaText)>) -> Option<T>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unreachable, "the schema registry is away"));
        }
        answer(&self.schemas.lock().unwrap()).ok_or_else(|| Error::new(Code::UnknownSchema, "no such schema"))
    }
    pub fn texts(&self) -> HashMap<String, String> {
        self.schemas.lock().unwrap().iter().map(|(subject, schema)| (subject.clone(), schema.text.clone())).collect()
    }
}

fn number(id: usize) -> SchemaId {
    u32::try_from(id).unwrap().into()
}

fn registered(id: usize, schema: &SchemaText) -> Arc<RegisteredSchema> {
    let (id, kind, text) = (number(id), schema.kind, schema.text.clone());
    Arc::new(RegisteredSchema { id, kind, text, references: Vec::new() })
}

impl SchemaRegistry for Memory {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        let SchemaId::Number(id) = id else { return Err(Error::new(Code::UnknownSchema, "no such schema")) };
        self.answer(|all| all.get(id as usize).map(|(_, schema)| registered(id as usize, schema)))
    }
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.answer(|all| {
            let newest = all.iter().enumerate().rev().find(|(_, (name, _))| name == subject);
            newest.map(|(id, (_, schema))| registered(id, schema))
        })
    }
    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        if let Ok(id) = self.find(subject, schema) {
            return Ok(id);
        }
        self.answer(|all| Some(all.len()))?;
        let mut all = self.schemas.lock().unwrap();
        all.push((subject.into(), schema.clone()));
        Ok(number(all.len() - 1))
    }
    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        self.answer(|all| all.iter().position(|(name, known)| name == subject && known == schema).map(number))
    }
}
