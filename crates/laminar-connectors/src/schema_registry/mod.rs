//! The client of a schema registry, behind the port that formats use: `confluent`'s protocol, or AWS `glue`'s, over HTTP.
//!
//! Formats ask from the middle of decoding, which cannot wait as an async task does; they ask once an id. So a call runs on a thread of
//! its own, and the worker that asked tells its runtime that it blocks. Every call has a time limit. A job's is repeated a few
//! times while the registry gives no answer; then its error is an outage, and the job is restarted with backoff. A statement's
//! is made once: a person waits for it.
//!
//! Schemas by id never change, so they are kept for good. What is under a subject does, so that is asked for each time.

mod aws;
mod confluent;
mod confluent_error;
mod glue;
mod glue_error;
mod patience;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use laminar_core::Result;
use laminar_formats::FormatContext;
use laminar_formats::registry::{
    Framing, Part, RegisteredSchema, RegistryKind, RegistryOptions, SchemaId, SchemaRegistry, SchemaText, TableRegistry,
};

use crate::http::wait;
use confluent::Confluent;
use glue::Glue;
pub(crate) use patience::Patience;

/// What formats get of a table's options: its registry, if it has one. `topic` is where its records are. No I/O.
///
/// Errors are those of [`RegistryOptions::check`].
pub(crate) fn format_context(options: &RegistryOptions, topic: &str, patience: Patience) -> Result<FormatContext> {
    options.check()?;
    if !options.is_given() {
        return Ok(FormatContext::default());
    }
    let registry = Arc::new(RegistryClient::with_patience(options, patience)?);
    Ok(FormatContext {
        registry: Some(TableRegistry { registry, part: Part::Value, topic: topic.into(), options: options.clone() }),
    })
}

/// What is asked of a registry, as its own protocol has it: the errors are those of [`SchemaRegistry`].
#[async_trait]
trait Calls: Debug + Send + Sync {
    /// For messages: where it is.
    fn name(&self) -> &str;
    fn framing(&self) -> Framing;
    async fn schema(&self, id: SchemaId) -> Result<RegisteredSchema>;
    async fn latest(&self, subject: &str) -> Result<RegisteredSchema>;
    async fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId>;
    async fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId>;
}

/// One registry, as one table's options reach it.
#[derive(Debug)]
pub struct RegistryClient {
    calls: Box<dyn Calls>,
    patience: Patience,
    by_id: Mutex<HashMap<SchemaId, Arc<RegisteredSchema>>>,
    written: Mutex<HashMap<(String, SchemaText), SchemaId>>,
}

impl RegistryClient {
    /// One that a job asks. No I/O. Errors: `invalid_option`.
    pub fn new(options: &RegistryOptions) -> Result<Self> {
        Self::with_patience(options, Patience::Job)
    }

    fn with_patience(options: &RegistryOptions, patience: Patience) -> Result<Self> {
        let calls: Box<dyn Calls> = match options.kind {
            RegistryKind::Confluent => Box::new(Confluent::new(options, patience)?),
            RegistryKind::Glue => Box::new(Glue::new(options, patience)?),
        };
        Ok(Self { calls, patience, by_id: Mutex::new(HashMap::new()), written: Mutex::new(HashMap::new()) })
    }

    fn ask<T: Send>(&self, asked: impl Future<Output = Result<T>> + Send) -> Result<T> {
        wait(self.patience.in_time(self.calls.name(), asked))
    }

    fn remembered(&self, subject: &str, schema: &SchemaText) -> Option<SchemaId> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&(subject.to_string(), schema.clone())).copied()
    }

    fn remember(&self, subject: &str, schema: &SchemaText, id: SchemaId) -> SchemaId {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert((subject.to_string(), schema.clone()), id);
        id
    }
}

impl SchemaRegistry for RegistryClient {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        if let Some(schema) = self.by_id.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(self.ask(self.calls.schema(id))?);
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.ask(self.calls.latest(subject)).map(Arc::new)
    }

    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        match self.remembered(subject, schema) {
            Some(id) => Ok(id),
            None => self.ask(self.calls.register(subject, schema)).map(|id| self.remember(subject, schema, id)),
        }
    }

    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        match self.remembered(subject, schema) {
            Some(id) => Ok(id),
            None => self.ask(self.calls.find(subject, schema)).map(|id| self.remember(subject, schema, id)),
        }
    }

    fn framing(&self) -> Framing {
        self.calls.framing()
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::options::Secret;
    use laminar_core::{Code, Options};

    use super::*;

    fn client(endpoint: &str, secret: Option<&str>) -> Result<RegistryClient> {
        let mut options: RegistryOptions = Options::default().parse("registry").unwrap();
        options.api_key = Some("me".into());
        options.api_secret = secret.map(Secret::new);
        options.endpoint = Some(vec!["http://good:8081".into(), endpoint.into()]);
        RegistryClient::new(&options)
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_shown() {
        for endpoint in ["http://me:hunter2@host:8081", "https://hunter2@host/path", "me:hunter2@host"] {
            let error = client(endpoint, None).unwrap_err();
            assert_eq!((error.code(), error.field()), (Code::InvalidOption, Some("schema_registry.endpoint")));
            assert!(error.hint().unwrap().contains("schema_registry.api_secret"), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(client("http://host/subjects/a@b", None).is_ok());
    }

    #[test]
    fn an_id_that_no_registry_gives_is_not_asked_for() {
        let error = client("http://127.0.0.1:1", None).unwrap().schema((1 << 31).into()).unwrap_err();
        assert_eq!(error.code(), Code::UnknownSchema);
    }

    #[test]
    fn no_password_prints() {
        let client = client("http://host", Some("hunter2")).unwrap();
        assert!(!format!("{client:?}").contains("hunter2"), "{client:?}");
    }
}
