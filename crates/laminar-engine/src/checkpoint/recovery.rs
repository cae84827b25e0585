//! Reads the facts that a restart is decided from, and loads what it restores.
//!
//! Order matters: fence first (every committer's `recover`), read the markers, only then look at manifests. A manifest that
//! cannot be verified is rebuilt from the one before, or the job stops with an error: never a silent fall back.

use std::collections::BTreeMap;
use std::sync::Arc;

use laminar_core::sink::{Committer, Marker};
use laminar_core::{Code, Epoch, Error, OperatorId, Position, Result, SplitId};
use laminar_state::{Manifest, ManifestRef, PipelineStore};
use tracing::warn;

use super::protocol::{self, Start};
use crate::crash::CrashPoints;
use crate::graph::{Graph, NodeKind, RowTime};
use crate::job::Restore;
use crate::operator::StateFile;

/// Positions that a replay stops at, per source operator.
pub(crate) type Bounds = BTreeMap<OperatorId, BTreeMap<SplitId, Position>>;

/// The epoch that some committers have and others lack: made again, with exactly these positions.
#[derive(Debug)]
pub(crate) struct Replay {
    pub epoch: Epoch,
    pub bounds: Bounds,
}

impl From<Marker> for Replay {
    fn from(marker: Marker) -> Self {
        Self { epoch: marker.epoch, bounds: marker.positions }
    }
}

/// All that a job starts from.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The restored epoch. Not 0 on a start without state if epochs were used before.
    pub last: Epoch,
    /// Absent on a fresh start.
    pub manifest: Option<(Manifest, String)>,
    /// Make a checkpoint before the first read.
    pub pin_start: bool,
    pub replay: Option<Replay>,
    /// Per committer: the epoch of its marker.
    pub ahead: Vec<Epoch>,
    /// Restored files of each operator.
    pub state: BTreeMap<OperatorId, Vec<StateFile>>,
}

pub(crate) async fn recover(
    graph: &Graph,
    committers: &[Arc<dyn Committer>],
    store: &PipelineStore,
    restore: Restore,
    crash: &CrashPoints,
) -> Result<Recovered> {
    let mut markers = Vec::with_capacity(committers.len());
    for committer in committers {
        markers.push(committer.recover().await?);
        crash.hit("recover-fenced")?;
    }
    crash.hit("recover-marker-read")?;
    let mut recovered = match restore {
        Restore::Nothing => fresh(newest_epoch(&markers, store).await?),
        Restore::Epoch(epoch) => from_epoch(epoch, &markers, store).await?,
        Restore::Latest if committers.is_empty() => from_latest_manifest(store).await?,
        Restore::Latest => from_markers(&markers, store).await?,
    };
    if recovered.replay.is_some() {
        refuse_replay(graph)?;
    }
    recovered.ahead = markers.iter().map(|m| m.as_ref().map_or(Epoch(0), |m| m.epoch)).collect();
    if let Some((manifest, _)) = &recovered.manifest {
        check_operators(graph, manifest)?;
        for (operator, state) in &manifest.state {
            let mut files = Vec::with_capacity(state.files.len());
            for (name, file) in &state.files {
                files.push(StateFile { name: name.clone(), rows: store.read_state(file).await? });
            }
            recovered.state.insert(operator.clone(), files);
        }
    }
    crash.hit("recover-restored")?;
    Ok(recovered)
}

/// A replay makes an epoch again whose rows are outside already: it must make the same ones. Rows that are timed by their
/// arrival would now come at another time, and into other windows.
fn refuse_replay(graph: &Graph) -> Result<()> {
    let by_arrival = graph.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Source(source) if matches!(source.time, RowTime::Arrival(_)) => Some(&source.table),
        _ => None,
    });
    let Some(table) = by_arrival else { return Ok(()) };
    let message = format!(
        "the last checkpoint is incomplete, and cannot be made again: table {table} is read by processing time"
    );
    Err(choose_another(Error::new(Code::CheckpointDamaged, message)))
}

/// Without state; epochs up to `last` have been used.
fn fresh(last: Epoch) -> Recovered {
    Recovered { last, pin_start: true, ..Recovered::default() }
}

async fn from_markers(markers: &[Option<Marker>], store: &PipelineStore) -> Result<Recovered> {
    let start = protocol::decide(markers)?;
    let listed = store.list().await?;
    let marked = markers.iter().flatten().map(|m| m.epoch).max().unwrap_or_default();
    if let Some(newest) = listed.iter().rev().find(|m| m.is_deciding() && m.epoch > marked) {
        // It delivered at least once since the markers were written, or until now.
        return from_deciding(newest, &listed, store).await;
    }
    let (epoch, digest, replay) = match &start {
        // The first epoch is a candidate until a marker names it; a second one is made only after that.
        Start::Fresh if listed.iter().any(|m| m.epoch > Epoch(1)) => return Err(markers_gone(&listed)),
        Start::Fresh => return Ok(fresh(Epoch(0))),
        Start::First { digest } => {
            let manifest = store.load(Epoch(1), digest).await?;
            return Ok(Recovered { manifest: Some((manifest, digest.clone())), ..fresh(Epoch(0)) });
        }
        Start::From { epoch, digest, replay } => (epoch, digest, replay),
    };
    let damage = match load_whole(store, *epoch, digest).await {
        Ok(manifest) => {
            let replay = replay.clone().map(Replay::from);
            return Ok(Recovered {
                last: *epoch,
                manifest: Some((manifest, digest.clone())),
                replay,
                ..Recovered::default()
            });
        }
        Err(error) if error.code() == Code::CheckpointDamaged => choose_another(error),
        Err(error) => return Err(error),
    };
    let Some((previous, marker)) = protocol::rebuild_from_previous(&start, markers) else { return Err(damage) };
    let Some((manifest, digest)) = only_manifest(store, previous).await? else { return Err(damage) };
    warn!(%epoch, %previous, error = %damage, "checkpoint is damaged: rebuilding it from the one before");
    Ok(Recovered {
        last: previous,
        manifest: Some((manifest, digest)),
        replay: Some(marker.into()),
        ..Recovered::default()
    })
}

/// Loads a manifest and verifies every file that it names.
async fn load_whole(store: &PipelineStore, epoch: Epoch, digest: &str) -> Result<Manifest> {
    let manifest = store.load(epoch, digest).await?;
    for file in manifest.state.values().flat_map(|s| s.files.values()) {
        store.read_state(file).await?;
    }
    Ok(manifest)
}

/// The manifest of an epoch if there is exactly one: with two, nobody can say which was committed.
async fn only_manifest(store: &PipelineStore, epoch: Epoch) -> Result<Option<(Manifest, String)>> {
    let listed = store.list().await?;
    let mut of_epoch = listed.iter().filter(|m| m.epoch == epoch);
    match (of_epoch.next(), of_epoch.next()) {
        (Some(only), None) => Ok(Some((store.load_listed(only).await?, only.digest_prefix.clone()))),
        _ => Ok(None),
    }
}

/// Without a committer the newest manifest decides. If it is damaged the job stops.
///
/// A candidate as the newest means that the pipeline delivered exactly once before. Nobody can say any more whether that
/// epoch was committed, the one before it was: rows of one epoch may be repeated, none is lost.
async fn from_latest_manifest(store: &PipelineStore) -> Result<Recovered> {
    let listed = store.list().await?;
    let Some(newest) = listed.last() else { return Ok(fresh(Epoch(0))) };
    if newest.is_deciding() {
        return from_deciding(newest, &listed, store).await;
    }
    let candidate = store.load_listed(newest).await.map_err(choose_another)?;
    let certain = match &candidate.previous_digest {
        // The first epoch has no rows: its barrier comes before the first read.
        None => (candidate, newest.digest_prefix.clone()),
        Some(digest) => {
            let before = listed.iter().find(|m| m.epoch < newest.epoch && m.is(digest));
            let before = before.ok_or_else(|| {
                let message = format!("the checkpoint before {} is not kept", newest.epoch);
                choose_another(Error::new(Code::CheckpointDamaged, message))
            })?;
            (store.load_listed(before).await.map_err(choose_another)?, digest.clone())
        }
    };
    Ok(Recovered { last: newest.epoch, manifest: Some(certain), ..Recovered::default() })
}

async fn from_deciding(deciding: &ManifestRef, listed: &[ManifestRef], store: &PipelineStore) -> Result<Recovered> {
    let manifest = store.load_listed(deciding).await.map_err(choose_another)?;
    let last = listed.last().map_or(deciding.epoch, |newest| newest.epoch);
    Ok(Recovered { last, manifest: Some((manifest, deciding.digest_prefix.clone())), ..Recovered::default() })
}

fn choose_another(error: Error) -> Error {
    error.with_hint(
        "RESTART PIPELINE … FROM CHECKPOINT n takes an older one and repeats rows; IGNORING STATE starts anew",
    )
}

/// Checkpoints were committed into sinks that know nothing of it.
fn markers_gone(listed: &[ManifestRef]) -> Error {
    let newest = listed.last().map_or(Epoch(0), |m| m.epoch);
    Error::new(
        Code::CheckpointMismatch,
        format!("the sinks do not know of this pipeline, which is at checkpoint {newest}"),
    )
    .with_detail("a sink writes somewhere else now, or what it kept beside its rows was deleted")
    .with_hint("RESTART PIPELINE … FROM CHECKPOINT n goes on from one, and may repeat rows; IGNORING STATE starts anew")
}

/// The user asked for an older checkpoint: rows after it are written again.
async fn from_epoch(epoch: Epoch, markers: &[Option<Marker>], store: &PipelineStore) -> Result<Recovered> {
    let named = markers.iter().flatten().find(|m| m.epoch == epoch);
    let found = match named {
        Some(marker) => Some((store.load(epoch, &marker.manifest_digest).await?, marker.manifest_digest.clone())),
        None => only_manifest(store, epoch).await?,
    };
    let Some(manifest) = found else {
        let kept: Vec<_> = store.list().await?.iter().map(|m| m.epoch.to_string()).collect();
        let error = Error::new(Code::NotFound, format!("checkpoint {epoch} is not kept"));
        return Err(error.with_hint(format!("checkpoints that are: {}", kept.join(", "))));
    };
    Ok(Recovered { last: newest_epoch(markers, store).await?, manifest: Some(manifest), ..Recovered::default() })
}

async fn newest_epoch(markers: &[Option<Marker>], store: &PipelineStore) -> Result<Epoch> {
    let marked = markers.iter().flatten().map(|m| m.epoch).max();
    let listed = store.list().await?.last().map(|m| m.epoch);
    Ok(marked.max(listed).unwrap_or_default())
}

/// State and positions fit only the operators that made them.
fn check_operators(graph: &Graph, manifest: &Manifest) -> Result<()> {
    let now = graph.fingerprint();
    let keeps_state = |id: &OperatorId| manifest.state.get(id).is_some_and(|s| !s.files.is_empty());
    for (id, before) in &manifest.operators {
        if !manifest.sources.contains_key(id) && !keeps_state(id) {
            continue;
        }
        let same = match now.get(id) {
            Some(text) if manifest.sources.contains_key(id) => kind_of(text) == kind_of(before),
            Some(text) => text == before,
            None => false,
        };
        if !same {
            let is = now.get(id).map_or("is gone", String::as_str);
            let message = format!("operator {id} was '{before}' in checkpoint {} and now {is}", manifest.epoch);
            return Err(Error::new(Code::CheckpointMismatch, message)
                .with_hint("RESTART PIPELINE … IGNORING STATE starts without the old state"));
        }
    }
    let is_new = |id: &OperatorId| !manifest.sources.contains_key(id);
    let added = graph.nodes.iter().find(|n| matches!(n.kind, NodeKind::Source(_)) && is_new(&n.id));
    match added {
        Some(node) => Err(Error::new(
            Code::CheckpointMismatch,
            format!("operator {} ({}) is not in checkpoint {}", node.id, node.name, manifest.epoch),
        )
        .with_hint("RESTART PIPELINE … IGNORING STATE starts without the old state")),
        None => Ok(()),
    }
}

/// `source orders (id Int64, …)` without its columns: a query may read others of the same table.
fn kind_of(fingerprint: &str) -> &str {
    fingerprint.split_once(" (").map_or(fingerprint, |(kind, _)| kind)
}
