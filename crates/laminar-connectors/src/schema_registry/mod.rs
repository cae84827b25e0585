//! The client of a schema registry: Confluent's protocol over HTTP, behind the port that formats use.
//!
//! Formats ask from the middle of decoding, which cannot wait as an async task does; they ask once an id. So a call runs on a thread of
//! its own, and the worker that asked tells its runtime that it blocks. Every call has a time limit and is repeated a few
//! times while the registry gives no answer; then its error is an outage, and the job is restarted with backoff.
//!
//! Schemas by id never change, so they are kept for good. What is under a subject does, so that is asked for each time.

mod calls;
mod error;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use laminar_core::{Error, Result};
use laminar_formats::FormatContext;
use laminar_formats::registry::{RegisteredSchema, RegistryOptions, SchemaRegistry, SchemaText, TableRegistry};
use tokio::runtime::{Handle, RuntimeFlavor};

use calls::Calls;

/// What formats get of a table's options: its registry, if it has one. `topic` is where its records are. No I/O.
///
/// Errors are those of [`RegistryOptions::check`].
pub(crate) fn format_context(options: &RegistryOptions, topic: &str) -> Result<FormatContext> {
    options.check()?;
    let Some(endpoints) = &options.endpoint else { return Ok(FormatContext::default()) };
    let registry = Arc::new(RegistryClient::new(endpoints, options)?);
    Ok(FormatContext { registry: Some(TableRegistry { registry, topic: topic.into(), options: options.clone() }) })
}

/// One registry, as one table's options reach it.
#[derive(Debug)]
pub struct RegistryClient {
    calls: Calls,
    by_id: Mutex<HashMap<u32, Arc<RegisteredSchema>>>,
    written: Mutex<HashMap<(String, SchemaText), u32>>,
}

impl RegistryClient {
    /// No I/O. Errors: `invalid_option`.
    pub fn new(endpoints: &[String], options: &RegistryOptions) -> Result<Self> {
        let (by_id, written) = (Mutex::new(HashMap::new()), Mutex::new(HashMap::new()));
        Ok(Self { calls: Calls::new(endpoints, options)?, by_id, written })
    }

    fn remembered(&self, subject: &str, schema: &SchemaText) -> Option<u32> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&(subject.to_string(), schema.clone())).copied()
    }

    fn remember(&self, subject: &str, schema: &SchemaText, id: u32) -> u32 {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert((subject.to_string(), schema.clone()), id);
        id
    }
}

impl SchemaRegistry for RegistryClient {
    fn schema(&self, id: u32) -> Result<Arc<RegisteredSchema>> {
        if let Some(schema) = self.by_id.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(wait(self.calls.schema(id))?);
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        wait(self.calls.latest(subject)).map(Arc::new)
    }

    fn register(&self, subject: &str, schema: &SchemaText) -> Result<u32> {
        match self.remembered(subject, schema) {
            Some(id) => Ok(id),
            None => wait(self.calls.register(subject, schema)).map(|id| self.remember(subject, schema, id)),
        }
    }

    fn find(&self, subject: &str, schema: &SchemaText) -> Result<u32> {
        match self.remembered(subject, schema) {
            Some(id) => Ok(id),
            None => wait(self.calls.find(subject, schema)).map(|id| self.remember(subject, schema, id)),
        }
    }
}

/// Runs the call on a thread of its own and waits for it, whichever thread this is.
fn wait<T: Send>(call: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| Error::internal(format!("no runtime for a call: {error}")))?;
                runtime.block_on(call)
            });
            thread.join().unwrap_or_else(|_| Err(Error::internal("a call of the schema registry panicked")))
        })
    };
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(run),
        _ => run(),
    }
}
