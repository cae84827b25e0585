//! The store on a local folder: round trips, damage, fencing, cleaning up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed test panics

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use laminar_core::{Code, Epoch, PipelineId, Position};
use laminar_state::{CheckpointStore, Manifest, OperatorState, PipelineStore, Publish, SourcePositions, StateFileRef};
use proptest::prelude::*;

fn rows(values: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

fn manifest(epoch: u64, files: &[(&str, &StateFileRef)]) -> Manifest {
    let splits = [("orders/0".into(), Position(epoch * 10))].into();
    let files = files.iter().map(|(name, file)| (name.to_string(), (*file).clone())).collect();
    Manifest {
        version: Manifest::VERSION,
        pipeline: "pipe_1".into(),
        job: "job_1".into(),
        epoch: Epoch(epoch),
        created_micros: 5,
        operators: [("source-0".into(), "source orders".to_string())].into(),
        sources: [("source-0".into(), SourcePositions { splits, ..SourcePositions::default() })].into(),
        state: [("retain-1".into(), OperatorState { files })].into(),
        watermark: None,
        watermarks: Default::default(),
        previous_digest: None,
    }
}

fn store(folder: &tempfile::TempDir) -> PipelineStore {
    let store = CheckpointStore::open(folder.path().to_str().unwrap(), []).unwrap();
    store.pipeline(&PipelineId::from("pipe_1"))
}

fn all_files(folder: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let file = store.write_state(&"retain-1".into(), Epoch(1), "0-1", &[rows(&[1, 2]), rows(&[3])]).await.unwrap();
    let written = manifest(1, &[("0-1", &file)]);
    let digest = store.publish(&written, Publish::Candidate).await.unwrap();
    assert_eq!(store.load(Epoch(1), &digest).await.unwrap(), written);
    assert_eq!(store.read_state(&file).await.unwrap(), [rows(&[1, 2]), rows(&[3])]);
}

/// What is left of a file's bytes; `None`: not even the file.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

#[tokio::test]
async fn every_kind_of_damage_is_noticed() {
    let damages: [Damage; 5] = [
        |_| None,                                                                                         // missing
        |_| Some(vec![]),                                                                                 // emptied
        |b| Some(b[..b.len() / 2].to_vec()),                                                              // truncated
        |b| Some(b.iter().map(|_| 0).collect()),                                                          // zeroed
        |b| Some(b.iter().enumerate().map(|(i, x)| if i == b.len() / 3 { x ^ 4 } else { *x }).collect()), // one bit
    ];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let file = store.write_state(&"retain-1".into(), Epoch(1), "0-1", &[rows(&[1, 2])]).await.unwrap();
        let digest = store.publish(&manifest(1, &[("0-1", &file)]), Publish::Candidate).await.unwrap();
        for path in all_files(&folder) {
            match damage(&std::fs::read(&path).unwrap()) {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
        }
        assert_eq!(store.load(Epoch(1), &digest).await.unwrap_err().code(), Code::CheckpointDamaged);
        assert_eq!(store.read_state(&file).await.unwrap_err().code(), Code::CheckpointDamaged);
    }
}

#[tokio::test]
async fn one_deciding_manifest_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    store.publish(&manifest(1, &[]), Publish::Deciding).await.unwrap();
    let second = store.publish(&manifest(1, &[]), Publish::Deciding).await.unwrap_err();
    assert_eq!(second.code(), Code::Fenced);
}

#[tokio::test]
async fn retain_keeps_what_the_kept_manifests_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let old = store.write_state(&"retain-1".into(), Epoch(1), "0-1", &[rows(&[1])]).await.unwrap();
    let shared = store.write_state(&"retain-1".into(), Epoch(2), "0-2", &[rows(&[2])]).await.unwrap();
    let (first, second) = (manifest(1, &[("0-1", &old)]), manifest(2, &[("0-2", &shared)]));
    let third = manifest(3, &[("0-2", &shared)]);
    let mut orphan = third.clone();
    orphan.watermark = Some(7);
    let mut digests = vec![];
    for m in [&first, &second, &third, &orphan] {
        digests.push(store.publish(m, Publish::Candidate).await.unwrap());
    }
    store.retain(&[(&second, &digests[1]), (&third, &digests[2])]).await.unwrap();
    let kept: Vec<_> = store.list().await.unwrap().iter().map(|m| (m.epoch.0, m.digest_prefix.clone())).collect();
    assert_eq!(kept, [(2, digests[1][..16].to_string()), (3, digests[2][..16].to_string())]);
    assert!(store.read_state(&old).await.is_err());
    assert_eq!(store.read_state(&shared).await.unwrap(), [rows(&[2])]);
}

#[test]
fn a_url_that_cannot_be_used_says_so() {
    let error = CheckpointStore::open("ftp://somewhere/x", []).unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    assert!(error.message().contains("ftp://somewhere/x"), "{error}");
}

proptest! {
    #[test]
    fn manifests_survive_their_file(epoch in 0u64.., time: i64, split in "[a-z]{1,8}/[0-9]", position: u64, mark: Option<i64>) {
        let mut written = manifest(1, &[]);
        written.epoch = Epoch(epoch);
        written.created_micros = time;
        written.watermark = mark;
        written.sources.get_mut(&"source-0".into()).unwrap().splits.insert(split.as_str().into(), Position(position));
        let read: Manifest = serde_json::from_slice(&serde_json::to_vec(&written).unwrap()).unwrap();
        prop_assert_eq!(read, written);
    }
}
