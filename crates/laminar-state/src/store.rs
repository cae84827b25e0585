//! Writes, reads and cleans up a pipeline's checkpoints.
//!
//! Which manifest counts is decided outside, in one of two ways ([`Publish`]):
//!
//! * a pipeline with a committer: the marker in the sink's own transaction names the manifest by its digest. The digest is
//!   part of the file name, so a zombie's manifest of the same epoch cannot overwrite the one that was committed;
//! * a pipeline without one: the manifest itself decides, the name is the epoch alone and is created only if it does not
//!   exist. A second instance that writes the same epoch gets `fenced`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use futures::TryStreamExt;
use laminar_core::{Code, Epoch, Error, OperatorId, PipelineId, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use url::Url;

use crate::manifest::{Manifest, StateFileRef};

/// Where all checkpoints of an installation live.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Set for a local folder: files are flushed to the device there, which the object store does not do by itself.
    folder: Option<PathBuf>,
}

/// How a manifest becomes the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// A marker elsewhere will name it; any number may exist for one epoch.
    Candidate,
    /// It counts as soon as it exists; there is at most one per epoch.
    Deciding,
}

/// A manifest that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestRef {
    pub epoch: Epoch,
    /// First 16 hex digits of its sha256; empty for a deciding one.
    pub digest_prefix: String,
    path: String,
}

impl ManifestRef {
    /// It counts because it exists; a candidate counts if a marker names it.
    pub fn is_deciding(&self) -> bool {
        self.digest_prefix.is_empty()
    }

    /// May it be the manifest of this digest? `sha256` is what [`PipelineStore::publish`] returned or a listed prefix.
    pub fn is(&self, sha256: &str) -> bool {
        sha256.starts_with(&self.digest_prefix) && self.is_deciding() == sha256.is_empty()
    }
}

impl CheckpointStore {
    /// `url`: a folder (`/var/lib/laminar`, `file:///…`), `s3://bucket/prefix`, `gs://…` or `az://…`. Credentials come from
    /// the provider's usual environment. Creates a local folder that does not exist.
    pub fn open(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let bad =
            |why: String| Error::new(Code::InvalidOption, format!("state url '{url}' cannot be used")).with_detail(why);
        match Url::parse(url) {
            Ok(parsed) if parsed.scheme() != "file" => {
                let lower = environment.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v));
                let (objects, prefix) = object_store::parse_url_opts(&parsed, lower).map_err(|e| bad(e.to_string()))?;
                Ok(Self { objects: objects.into(), prefix, folder: None })
            }
            parsed => {
                let from_url =
                    parsed.ok().map(|u| u.to_file_path().map_err(|()| bad("it is not an absolute path".into())));
                let folder = from_url.transpose()?.unwrap_or_else(|| PathBuf::from(url));
                std::fs::create_dir_all(&folder).map_err(|e| bad(e.to_string()))?;
                let folder = folder.canonicalize().map_err(|e| bad(e.to_string()))?;
                let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|e| bad(e.to_string()))?;
                Ok(Self { objects: Arc::new(objects), prefix: Path::default(), folder: Some(folder) })
            }
        }
    }

    /// The part of one pipeline.
    pub fn pipeline(&self, pipeline: &PipelineId) -> PipelineStore {
        PipelineStore { store: self.clone(), root: self.prefix.clone().join(pipeline.as_str()) }
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<()> {
        let options = PutOptions { mode, ..PutOptions::default() };
        self.objects.put_opts(path, PutPayload::from_bytes(bytes), options).await.map_err(|e| match e {
            object_store::Error::AlreadyExists { .. } => {
                Error::new(Code::Fenced, format!("{path} was written by another instance of this pipeline"))
            }
            other => unavailable(path, &other),
        })?;
        match &self.folder {
            None => Ok(()),
            Some(folder) => flush_to_device(folder.join(path.as_ref())).await,
        }
    }

    async fn get(&self, path: &Path) -> Result<Bytes> {
        let read = async { self.objects.get(path).await?.bytes().await };
        read.await.map_err(|e| match e {
            object_store::Error::NotFound { .. } => {
                Error::new(Code::CheckpointDamaged, format!("checkpoint file {path} is missing"))
            }
            other => unavailable(path, &other),
        })
    }
}

/// The checkpoints of one pipeline.
#[derive(Clone, Debug)]
pub struct PipelineStore {
    store: CheckpointStore,
    root: Path,
}

impl PipelineStore {
    /// Writes one piece of an operator's state as an Arrow IPC stream; durable on return. `name` is the operator's name for
    /// it; the file's own name is made unique by its digest, so another attempt at the same epoch does not touch it.
    pub async fn write_state(
        &self,
        operator: &OperatorId,
        epoch: Epoch,
        name: &str,
        rows: &[RecordBatch],
    ) -> Result<StateFileRef> {
        let bytes = encode(rows)?;
        let sha256 = digest(&bytes);
        let unique = sha256.get(..16).unwrap_or_default();
        let path = format!("state/{operator}/{:020}/{name}-{unique}.arrow", epoch.0);
        let size = bytes.len() as u64;
        self.store.put(&self.path(&path), bytes, PutMode::Overwrite).await?;
        let rows = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(StateFileRef { path, bytes: size, sha256, epoch, rows })
    }

    /// The rows of a state file. Errors with `checkpoint_damaged` if it is missing or not what the manifest says.
    pub async fn read_state(&self, file: &StateFileRef) -> Result<Vec<RecordBatch>> {
        let bytes = self.store.get(&self.path(&file.path)).await?;
        let damaged = |what: &str| Error::new(Code::CheckpointDamaged, format!("checkpoint file {} {what}", file.path));
        if bytes.len() as u64 != file.bytes || digest(&bytes) != file.sha256 {
            return Err(damaged("does not have the content that its manifest names"));
        }
        let reader = StreamReader::try_new(bytes.as_ref(), None)
            .map_err(|e| damaged("is not Arrow").with_detail(e.to_string()))?;
        reader.collect::<Result<_, _>>().map_err(|e| damaged("is not Arrow").with_detail(e.to_string()))
    }

    /// Makes the manifest durable and returns its sha256, hex. Errors with `fenced` if it is a deciding one and its epoch
    /// already has one.
    pub async fn publish(&self, manifest: &Manifest, how: Publish) -> Result<String> {
        let bytes = serde_json::to_vec_pretty(manifest).map_err(|e| Error::internal(e.to_string()))?;
        let sha256 = digest(&bytes);
        let (name, mode) = match how {
            Publish::Candidate => (candidate_name(manifest.epoch, &sha256), PutMode::Overwrite),
            Publish::Deciding => (format!("{:020}.json", manifest.epoch.0), PutMode::Create),
        };
        self.store.put(&self.path(&format!("manifests/{name}")), bytes.into(), mode).await?;
        Ok(sha256)
    }

    /// The manifest that a marker names. Errors with `checkpoint_damaged` if it is missing or altered.
    pub async fn load(&self, epoch: Epoch, sha256: &str) -> Result<Manifest> {
        let path = self.path(&format!("manifests/{}", candidate_name(epoch, sha256)));
        let bytes = self.store.get(&path).await?;
        if digest(&bytes) != sha256 {
            return Err(Error::new(Code::CheckpointDamaged, format!("checkpoint manifest {path} was altered")));
        }
        parse(&path, &bytes)
    }

    /// The manifest behind a listed reference.
    pub async fn load_listed(&self, listed: &ManifestRef) -> Result<Manifest> {
        let path = self.path(&listed.path);
        let bytes = self.store.get(&path).await?;
        if !digest(&bytes).starts_with(&listed.digest_prefix) {
            return Err(Error::new(Code::CheckpointDamaged, format!("checkpoint manifest {path} was altered")));
        }
        let manifest = parse(&path, &bytes)?;
        if manifest.epoch != listed.epoch {
            let message = format!("checkpoint manifest {path} is of epoch {}", manifest.epoch);
            return Err(Error::new(Code::CheckpointDamaged, message));
        }
        Ok(manifest)
    }

    /// All manifests, by epoch.
    pub async fn list(&self) -> Result<Vec<ManifestRef>> {
        let mut found: Vec<_> = self.files("manifests").await?.iter().filter_map(|path| parse_name(path)).collect();
        found.sort();
        Ok(found)
    }

    /// Deletes every manifest but those of `keep` (each with its sha256), orphans of the same epoch included, then every
    /// state file that no kept manifest names. Later epochs are left alone. A file that is already gone is no error.
    pub async fn retain(&self, keep: &[(&Manifest, &str)]) -> Result<()> {
        let newest = keep.iter().map(|(m, _)| m.epoch).max().unwrap_or_default();
        let kept = |listed: &ManifestRef| {
            keep.iter().any(|(m, sha256)| m.epoch == listed.epoch && sha256.starts_with(&listed.digest_prefix))
        };
        for listed in self.list().await? {
            if listed.epoch <= newest && !kept(&listed) {
                self.delete(&listed.path).await?;
            }
        }
        let files = keep.iter().flat_map(|(m, _)| m.state.values()).flat_map(|s| s.files.values());
        let named: BTreeSet<&str> = files.map(|f| f.path.as_str()).collect();
        for path in self.files("state").await? {
            if state_epoch(&path).is_some_and(|epoch| epoch <= newest) && !named.contains(path.as_str()) {
                self.delete(&path).await?;
            }
        }
        Ok(())
    }

    /// Deletes all checkpoints of the pipeline, as when it is dropped.
    pub async fn delete_all(&self) -> Result<()> {
        for folder in ["manifests", "state"] {
            for path in self.files(folder).await? {
                self.delete(&path).await?;
            }
        }
        match &self.store.folder {
            // Empty folders remain on a file system; an object store has none.
            Some(folder) => match tokio::fs::remove_dir_all(folder.join(self.root.as_ref())).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error(&self.root, &e)),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn path(&self, below: &str) -> Path {
        Path::from(format!("{}/{below}", self.root))
    }

    /// Paths below the pipeline's root.
    async fn files(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder);
        let listed = self.store.objects.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| unavailable(&prefix, &e))?;
        let root = format!("{}/", self.root);
        Ok(listed.iter().filter_map(|p| p.as_ref().strip_prefix(&root).map(String::from)).collect())
    }

    async fn delete(&self, below: &str) -> Result<()> {
        let path = self.path(below);
        match self.store.objects.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(unavailable(&path, &e)),
        }
    }
}

fn candidate_name(epoch: Epoch, sha256: &str) -> String {
    format!("{:020}-{}.json", epoch.0, sha256.get(..16).unwrap_or_default())
}

fn parse_name(path: &str) -> Option<ManifestRef> {
    let name = path.strip_prefix("manifests/")?.strip_suffix(".json")?;
    let (epoch, digest_prefix) = name.split_once('-').unwrap_or((name, ""));
    Some(ManifestRef { epoch: Epoch(epoch.parse().ok()?), digest_prefix: digest_prefix.into(), path: path.into() })
}

/// The epoch that wrote a state file; later ones belong to a checkpoint that is being made.
fn state_epoch(path: &str) -> Option<Epoch> {
    path.split('/').nth(2)?.parse().ok().map(Epoch)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
    let damaged = |what: String| Error::new(Code::CheckpointDamaged, format!("checkpoint manifest {path} {what}"));
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| damaged(format!("cannot be read: {e}")))?;
    if manifest.version != Manifest::VERSION {
        return Err(damaged(format!("has version {}, this server reads {}", manifest.version, Manifest::VERSION)));
    }
    Ok(manifest)
}

fn encode(rows: &[RecordBatch]) -> Result<Bytes> {
    let first = rows.first().ok_or_else(|| Error::internal("a state file without rows"))?;
    let options = IpcWriteOptions::default().try_with_compression(Some(arrow::ipc::CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &first.schema(), options)?;
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    Ok(writer.into_inner()?.into())
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The rename is already done: what remains is to force the file, and its folder's entry, to the device.
async fn flush_to_device(file: PathBuf) -> Result<()> {
    let path = Path::from(file.to_string_lossy().as_ref());
    let flush = move || {
        std::fs::File::open(&file)?.sync_all()?;
        let folders = file.ancestors().skip(1).take(4);
        folders.into_iter().try_for_each(|folder| std::fs::File::open(folder)?.sync_all())
    };
    let done = tokio::task::spawn_blocking(flush).await.map_err(|e| Error::internal(e.to_string()))?;
    done.map_err(|e| file_error(&path, &e))
}

fn unavailable(path: &Path, error: &object_store::Error) -> Error {
    Error::new(Code::StoreUnavailable, format!("the checkpoint store refused {path}")).with_detail(error.to_string())
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::StoreUnavailable, format!("{path} cannot be made durable")).with_detail(error.to_string())
}
