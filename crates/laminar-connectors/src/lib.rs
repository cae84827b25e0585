//! Outside systems to records and back: one folder a connector, found by name in the [`Registry`].
//!
//! A connector never sees SQL, other connectors or the engine. Its options are one serde struct with doc comments: from
//! it come the values, the messages, the reference page and the JSON schema of `GET /connectors`.
//!
//! To add one: a folder here, a line in [`Registry::with`], an instance in `contract/instances.rs`.

pub mod batch;
mod declared;
pub mod schema_registry;
mod staged;

pub mod blackhole;
pub mod datagen;
pub mod filesystem;
pub mod impulse;
pub mod kafka;
pub mod memory;
pub mod nexmark;
pub mod single_file;
pub mod stdout;

mod files;
mod generator;
mod http;

#[cfg(test)]
mod contract;

use std::path::PathBuf;
use std::sync::Arc;

use laminar_core::connector::Connector;
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Result};

pub use files::FilesAccess;
use memory::MemoryLogs;

/// The connectors of this process, by name.
#[derive(Clone)]
pub struct Registry {
    connectors: Vec<Arc<dyn Connector>>,
}

/// What connectors are given of the process they run in.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The records of `memory` tables; keep a clone to read and write them.
    pub memory: MemoryLogs,
    /// The only folder in which tables may name files; `None`: any file that the process can reach.
    pub files_dir: Option<PathBuf>,
    /// Where rows of Kafka sinks wait that do so on disk; `None`: the system's folder for temporary files.
    pub spool_dir: Option<PathBuf>,
    /// Address of a [`kafka::DevBroker`]: sinks there are at-least-once.
    pub dev_broker: Option<String>,
}

impl Registry {
    /// Every connector that Laminar comes with, free to name any file.
    pub fn builtin() -> Self {
        Self::with(Surroundings::default())
    }

    /// Every connector that Laminar comes with.
    pub fn with(surroundings: Surroundings) -> Self {
        let Surroundings { memory, files_dir, spool_dir, dev_broker } = surroundings;
        let files = files_dir.clone().map_or_else(FilesAccess::everywhere, FilesAccess::below);
        let mut kafka = kafka::KafkaConnector::new();
        if let Some(folder) = files_dir {
            kafka = kafka.with_files_dir(folder);
        }
        if let Some(folder) = spool_dir {
            kafka = kafka.with_spool_dir(folder);
        }
        if let Some(bootstrap) = dev_broker {
            kafka = kafka.with_dev_broker(&bootstrap);
        }
        Self::new(vec![
            Arc::new(blackhole::BlackholeConnector::default()),
            Arc::new(datagen::DatagenConnector),
            Arc::new(filesystem::FilesystemConnector::new(files.clone())),
            Arc::new(impulse::ImpulseConnector),
            Arc::new(kafka),
            Arc::new(memory::MemoryConnector::new(memory)),
            Arc::new(nexmark::NexmarkConnector),
            Arc::new(single_file::SingleFileConnector::new(files)),
            Arc::new(stdout::StdoutConnector::default()),
        ])
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
            let error =
                Error::new(Code::UnknownConnector, format!("there is no connector {name}")).with_field("connector");
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
