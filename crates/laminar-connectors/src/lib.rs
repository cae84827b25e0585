//! Outside systems to records and back: one folder a connector, found by name in the [`Registry`].
//!
//! A connector never sees SQL, other connectors or the engine. Its options are one serde struct with doc comments: from
//! it come the values, the messages, the reference page and the JSON schema of `GET /connectors`.
//!
//! To add one: a folder here, a line in [`Registry::builtin`], an instance in the contract tests.

use std::sync::Arc;

use laminar_core::connector::Connector;
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Result};

/// The connectors of this process, by name.
#[derive(Clone)]
pub struct Registry {
    connectors: Vec<Arc<dyn Connector>>,
}

impl Registry {
    /// Every connector that Laminar comes with.
    pub fn builtin() -> Self {
        Self::new(Vec::new())
    }

    /// A registry of exactly these connectors, listed in the order of their names.
    pub fn new(mut connectors: Vec<Arc<dyn Connector>>) -> Self {
        connectors.sort_by_key(|c| c.name());
        Self { connectors }
    }

    /// The connector that is written `name` in SQL, in any case.
    ///
    /// Errors: `unknown_connector`, with the nearest name or all names as hint.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        self.iter().find(|c| c.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<&str> = self.iter().map(|c| c.name()).collect();
            let error = Error::new(Code::UnknownConnector, format!("there is no connector {name}")).with_field("connector");
            match nearest(name, names.iter().copied()) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error.with_hint(format!("connectors: {}", names.join(", "))),
            }
        })
    }

    /// All connectors, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.iter()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|c| c.name())).finish()
    }
}
