//! A checkpoint's table of contents.

use std::collections::BTreeMap;

use laminar_core::{Epoch, JobId, OperatorId, PipelineId, Position, SplitId};
use serde::{Deserialize, Serialize};

/// Stored as JSON. A field may be added with a default; the meaning of one never changes without a new `version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of this file; stored on disk, do not renumber. Now [`Manifest::VERSION`].
    pub version: u32,
    pub pipeline: PipelineId,
    pub job: JobId,
    pub epoch: Epoch,
    /// When the checkpoint's barrier started, µs since 1970 UTC.
    pub created_micros: i64,
    /// What each operator computed: state fits only an operator with the same text.
    pub operators: BTreeMap<OperatorId, String>,
    /// Where each source stood at the barrier.
    pub sources: BTreeMap<OperatorId, SourcePositions>,
    /// Files that together are the operators' state, those of earlier epochs included.
    pub state: BTreeMap<OperatorId, OperatorState>,
    /// Smallest watermark over all tasks at the barrier, µs since 1970 UTC.
    pub watermark: Option<i64>,
    /// Of each instance of each operator, by its index: what it closed has been emitted. They may differ: what came first of
    /// two inputs was not the same for all.
    #[serde(default)]
    pub watermarks: BTreeMap<OperatorId, Vec<Option<i64>>>,
    /// sha256 of the manifest of the epoch before, hex: that one was committed, whatever became of this one. Empty for a
    /// deciding one, absent in the first.
    #[serde(default)]
    pub previous_digest: Option<String>,
}

impl Manifest {
    pub const VERSION: u32 = 1;
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePositions {
    /// Next record to read, per split. Every split the source had is here, silent ones too.
    pub splits: BTreeMap<SplitId, Position>,
    /// Watermark of each split, µs since 1970 UTC, so that a restored source judges late rows as before.
    #[serde(default)]
    pub watermarks: BTreeMap<SplitId, i64>,
    /// What tells a split from an earlier one of the same name, where the outside system says it: the positions are of this
    /// one only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<SplitId, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// By the name the operator gave the file.
    pub files: BTreeMap<String, StateFileRef>,
}

/// Where a state file is and what it must contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFileRef {
    /// Below the pipeline's folder.
    pub path: String,
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// How many rows it has; 0 in manifests of earlier versions.
    #[serde(default)]
    pub rows: u64,
}
