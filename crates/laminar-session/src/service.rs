//! The running system: one per process, shared by every session and door.
//!
//! A change of the catalogue goes: check, persist, publish the new catalogue, start what is to run. One change at a time;
//! if a step fails, the ones before it are undone, so nothing is ever half created. Readers never wait: they take the
//! current catalogue.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use laminar_connectors::Registry;
use laminar_controller::{Controller, ControllerConfig};
use laminar_core::source::ConsumerGroup;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, PipelineId, Result};
use laminar_engine::RelationHandle;
use laminar_engine::crash::CrashPoints;
use laminar_metastore::Metastore;
use laminar_planner::{Planner, Resolver};
use laminar_state::CheckpointStore;

use crate::catalog::Catalog;
use crate::connected::Connected;
use crate::session::Session;

/// How long a shutdown waits for last checkpoints.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits before for the statement that is changing something: a supervisor kills us half a minute after it asked.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

/// What the system is made of.
#[derive(Clone, Debug)]
pub struct SystemConfig {
    pub metastore: Arc<dyn Metastore>,
    /// Where checkpoints live: a folder's path, `file://`, `s3://`, `gs://` or `az://`.
    pub state_url: String,
    /// Which files options may name is the registry's to know (`Registry::with`).
    pub registry: Arc<Registry>,
    pub clock: SharedClock,
    pub defaults: Defaults,
    /// The server's environment: credentials of the object store, and values for `${env:X}` if allowed.
    pub environment: BTreeMap<String, String>,
    /// May option values read the server's environment (`${env:X}`)?
    pub allow_env: bool,
    /// Armed by tests only.
    pub crash: CrashPoints,
}

/// What a pipeline or session uses where nothing else is said.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub parallelism: usize,
    pub checkpoint_interval: Duration,
    pub checkpoint_timeout: Duration,
    /// Longest time a preview of a stream reads.
    pub preview_timeout: Duration,
    /// Most rows a preview of a stream reads.
    pub preview_limit: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            parallelism: 1,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_timeout: Duration::from_secs(600),
            preview_timeout: Duration::from_secs(10),
            preview_limit: 100_000,
        }
    }
}

pub struct System {
    pub(crate) config: SystemConfig,
    pub(crate) planner: Planner,
    pub(crate) controller: Controller,
    pub(crate) store: CheckpointStore,
    catalog: RwLock<Arc<Catalog>>,
    /// Held while the catalogue changes.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// No job starts any more.
    closing: AtomicBool,
    /// Results of pipelines without a sink, by pipeline.
    results: Mutex<HashMap<PipelineId, RelationHandle>>,
    /// Consumer groups that each pipeline's last graph reads with.
    groups: Mutex<HashMap<PipelineId, Vec<ConsumerGroup>>>,
    /// Connections of each pipeline's last graph.
    connected: Mutex<HashMap<PipelineId, Connected>>,
}

impl System {
    /// Loads the catalogue and resumes every pipeline that should run; a pipeline that cannot start, or whose job the
    /// database did not take, is retried in the background and does not hold up the others.
    ///
    /// Errors: `metadata_unavailable`, `store_unavailable`.
    pub async fn start(config: SystemConfig) -> Result<Arc<System>> {
        let store = CheckpointStore::open(&config.state_url, config.environment.clone())?;
        let catalog = Catalog::load(&*config.metastore).await?;
        let controller = Controller::new(ControllerConfig {
            metastore: Arc::clone(&config.metastore),
            store: store.clone(),
            clock: Arc::clone(&config.clock),
            crash: config.crash.clone(),
        });
        controller.close_orphans().await?;
        let system = Arc::new(System {
            planner: Planner::new(Arc::clone(&config.registry), Arc::clone(&config.clock))?,
            config,
            controller,
            store,
            catalog: RwLock::new(Arc::new(catalog)),
            changing: tokio::sync::Mutex::new(()),
            closing: AtomicBool::new(false),
            results: Mutex::default(),
            groups: Mutex::default(),
            connected: Mutex::default(),
        });
        system.resume().await;
        system.keep_running();
        Ok(system)
    }

    /// A session with default settings.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(Arc::clone(self))
    }

    /// Stops every job with a checkpoint. Pipelines that ran run again when the system next starts. Idempotent.
    ///
    /// A change that has not ended by then is given up where it waits for a job; no job starts after this was called.
    pub async fn shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let guard = tokio::time::timeout(CHANGE_PATIENCE, self.changing.lock()).await;
        if guard.is_err() {
            tracing::warn!("a statement is still under way; jobs are stopped without waiting for it");
        }
        self.controller.shutdown(SHUTDOWN_PATIENCE).await;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub fn config(&self) -> &SystemConfig {
        &self.config
    }

    /// The catalogue as it is now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `catalog` the current one. Only while `changing` is held.
    pub(crate) fn publish(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }

    /// Where option values get secrets and environment from: `catalog`'s secrets, the server's environment if allowed.
    pub(crate) fn values(&self, catalog: &Arc<Catalog>) -> Values {
        let environment = self.config.allow_env.then(|| self.config.environment.clone());
        Values { catalog: Arc::clone(catalog), environment }
    }

    pub(crate) fn results(&self) -> MutexGuard<'_, HashMap<PipelineId, RelationHandle>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, HashMap<PipelineId, Vec<ConsumerGroup>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) -> MutexGuard<'_, HashMap<PipelineId, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves the placeholders in option values.
pub(crate) struct Values {
    catalog: Arc<Catalog>,
    environment: Option<BTreeMap<String, String>>,
}

impl Resolver for Values {
    fn secret(&self, name: &str) -> Result<Option<String>> {
        Ok(self.catalog.secrets.get(name).map(|s| s.expose().to_string()))
    }
    fn env(&self, name: &str) -> Result<Option<String>> {
        match &self.environment {
            Some(environment) => Ok(environment.get(name).cloned()),
            None => Err(Error::new(Code::ForbiddenOption, "this server does not let options read its environment")
                .with_hint("use CREATE SECRET and '${secret:name}', or start the server with reading allowed")),
        }
    }
}
