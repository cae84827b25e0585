//! A system behind its REST door, until a signal ends it.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use laminar_api::AllowedHosts;
use laminar_session::System;
use tokio::net::TcpListener;

use crate::settings::{self, ServerSettings};
use crate::signals;

/// Requests under way get this long when the server is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Takes the address, so that a port in use is known before anything starts.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}; choose another with --bind"))
}

/// Takes the data folder for this process: two servers on one folder would take each other's pipelines over. Hold the file
/// as long as the server lives; the lock goes with the process, however that ends.
pub fn claim(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("data folder {}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.with_context(|| format!("lock file {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "data folder {} is in use by another laminar: stop that one, or choose another folder with --data-dir",
                data_dir.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Answers requests until SIGINT or SIGTERM, then stops every job with a checkpoint.
pub async fn until_stopped(listener: TcpListener, system: Arc<System>, hosts: AllowedHosts) -> anyhow::Result<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut api = tokio::spawn(laminar_api::serve(listener, Arc::clone(&system), hosts, async move {
        let _ = stopped.await;
    }));
    tokio::select! {
        () = signals::asked_to_stop() => {}
        ended = &mut api => return ended.context("the API ended")?.context("the API ended"),
    }
    tracing::info!("stopping with a checkpoint; a second signal stops at once");
    let _ = stop.send(());
    if tokio::time::timeout(GRACE, &mut api).await.is_err() {
        tracing::warn!("requests are still under way and are dropped");
        api.abort();
    }
    system.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Says what is likely a mistake: names that nothing reads, an address that others can reach.
pub fn warn(settings: &ServerSettings) {
    for (name, near) in settings::misspelt(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!("nothing reads {name}; did you mean {near}?");
    }
    if !settings.bind.address.ip().is_loopback() {
        tracing::warn!(
            "listening on {}: whoever reaches it can run SQL, the API asks nobody who they are",
            settings.bind
        );
    }
}
