//! `REPLAY DLQ`: dead letters become the records that they were, in the topics that they came from.
//!
//! All of a cluster's are put back in one transaction, so each is there once for a call, or none is. The letters stay where they
//! are: another call would put them back again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use laminar_core::connector::SinkContext;
use laminar_core::dead_letter::{LetterBuilder, Reason, Stage};
use laminar_core::sink::{Committer, Delivery, Marker, Sink};
use laminar_core::source::{RawRecord, RawRecords, TimestampType};
use laminar_core::{Changes, Code, Epoch, Error, PipelineId, Position, Result, TaskId};
use laminar_planner::statement::Replay;

use crate::dead_letters::{Kept, Place, StoredLetter};
use crate::outcome::LateNotices;
use crate::query::{self, QueryCatalog};
use crate::settings::Settings;
use crate::{Outcome, System};

pub(crate) async fn replay(system: &Arc<System>, settings: &Settings, replay: &Replay) -> Result<Outcome> {
    let catalog = system.catalog();
    let pipeline = catalog.pipeline(replay.pipeline.as_str()).map_err(|e| e.at(replay.pipeline.location))?;
    let mut chosen = chosen(system, settings, replay, &pipeline.name).await?;
    let ctx = SinkContext {
        instance: system.config.metastore.instance_id().to_string(),
        // One for all calls: a newcomer fences one that hangs, and nothing piles up in the cluster.
        pipeline: PipelineId::new(format!("replay-{}", pipeline.id)),
        delivery: None,
        checkpoint_interval: system.config.defaults.checkpoint_interval,
        clock: Arc::clone(&system.config.clock),
    };
    let (mut parts, mut count) = (Vec::new(), 0);
    for Kept { table, letters } in system.dead_letters().await {
        // Of a table that cannot be read now, as a moment ago, none was chosen.
        let Ok(mut letters) = letters else { continue };
        letters.retain(|letter| chosen.remove(&letter.place()));
        if letters.is_empty() {
            continue;
        }
        count += letters.len();
        let sink = system.planner.replay_sink(&table.snapshot, table.def()?, &ctx, &system.values(&catalog))?;
        parts.push((sink, as_changes(pipeline.id.as_str(), &table.name, letters)?));
    }
    if !chosen.is_empty() {
        let what = format!("{} of the letters were gone before they were put back, and none was", chosen.len());
        return Err(Error::new(Code::DataLoss, what)
            .with_hint("the newest letters push out old ones: say which by WHERE, and try again"));
    }
    put_back(parts).await?;
    Ok(Outcome::done(format!("REPLAY {count}")))
}

/// Where the letters stand that the statement names.
async fn chosen(system: &Arc<System>, settings: &Settings, replay: &Replay, pipeline: &str) -> Result<BTreeSet<Place>> {
    let filter = replay.filter.as_ref().map(|filter| format!(" AND ({})", filter.text)).unwrap_or_default();
    let limit = replay.limit.as_ref().map(|limit| format!(" LIMIT {}", limit.text)).unwrap_or_default();
    let text = format!(
        "SELECT dlq_topic, dlq_partition, dlq_offset FROM system.dead_letters WHERE pipeline_name = '{}'{filter} \
         ORDER BY written_at, dlq_topic, dlq_partition, dlq_offset{limit}",
        pipeline.replace('\'', "''")
    );
    let here = replay.filter.as_ref().or(replay.limit.as_ref()).map(|expr| expr.start);
    let moved = |error: Error| error.moved_to(here);
    let query = laminar_planner::parse_query(&text).map_err(moved)?;
    let catalog = QueryCatalog::current(system);
    let (frame, _) = query::plan(system, &catalog, settings, &query, &LateNotices::default()).map_err(moved)?;
    let batches = frame.collect().await.map_err(query::error)?;
    Ok(batches.iter().flat_map(places).collect())
}

fn places(rows: &RecordBatch) -> Vec<Place> {
    let [topics, partitions, offsets] = rows.columns() else { return Vec::new() };
    let (Some(partitions), Some(offsets)) =
        (partitions.as_primitive_opt::<Int64Type>(), offsets.as_primitive_opt::<Int64Type>())
    else {
        return Vec::new();
    };
    let Some(topics) = topics.as_string_opt::<i32>() else { return Vec::new() };
    (0..topics.len()).map(|at| (topics.value(at).to_string(), partitions.value(at), offsets.value(at))).collect()
}

/// All of one cluster in one transaction; one cluster after the other.
async fn put_back(parts: Vec<(Arc<dyn Sink>, Changes)>) -> Result<()> {
    let mut committers: Vec<(Arc<dyn Committer>, Epoch)> = Vec::new();
    for (sink, _) in &parts {
        let committer = sink.committer().filter(|_| sink.delivery() == Delivery::ExactlyOnce);
        if let Some(committer) = committer.filter(|new| committers.iter().all(|(known, _)| known.id() != new.id())) {
            let last = committer.recover().await?.map_or(Epoch(0), |marker| marker.epoch);
            committers.push((committer, last.next()));
        }
    }
    let task = TaskId { operator: "replay".into(), index: 0 };
    let mut writers = Vec::with_capacity(parts.len());
    for (sink, letters) in &parts {
        let mut writer = sink.open(&task).await?;
        writer.write(letters).await?;
        writers.push(writer);
    }
    for writer in &mut writers {
        writer.flush(Epoch(1)).await?;
    }
    for (done, (committer, epoch)) in committers.iter().enumerate() {
        let marker = Marker {
            version: 1,
            epoch: *epoch,
            manifest_digest: String::new(),
            positions: BTreeMap::new(),
            watermark: None,
            previous: None,
        };
        committer.commit(&marker, &[]).await.map_err(|error| match done {
            0 => error,
            done => error.with_hint(format!("letters of {done} other clusters are back already")),
        })?;
    }
    Ok(())
}

fn as_changes(pipeline: &str, table: &str, letters: Vec<StoredLetter>) -> Result<Changes> {
    let records = Letters(letters);
    let mut builder = LetterBuilder::new(pipeline, table);
    for index in 0..records.len() {
        // What was wrong with it is not written again.
        let reason = Reason { stage: Stage::Decode, code: Code::BadData, message: "" };
        builder.push(&records.get(index), reason);
    }
    builder.finish()?.ok_or_else(|| Error::internal("no dead letters were chosen"))
}

/// Letters as the records that they were.
struct Letters(Vec<StoredLetter>);

impl RawRecords for Letters {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> RawRecord<'_> {
        let letter = self.0.get(index);
        let about = |name: &str| letter.and_then(|letter| letter.about.get(name)).map_or("", String::as_str);
        RawRecord {
            key: letter.and_then(|letter| letter.key.as_deref()),
            value: letter.and_then(|letter| letter.value.as_deref()),
            timestamp_micros: about("timestamp").parse::<i64>().map_or(0, |millis| millis.saturating_mul(1000)),
            timestamp_type: TimestampType::CreateTime,
            topic: about("topic"),
            partition: about("partition").parse().unwrap_or(0),
            position: Position(about("offset").parse().unwrap_or(0)),
            batch: Some((self, index)),
        }
    }

    fn headers(&self, index: usize, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in self.0.get(index).iter().flat_map(|letter| &letter.headers) {
            visit(name, value.as_deref());
        }
    }
}
