//! `REPLAY DLQ`: dead letters become the records that they were, in the topics that they came from.
//!
//! All of a table's are put back in one transaction of its own, so each is there once for a call, or none is. The letters stay where
//! they are: another call would put them back again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use laminar_core::connector::SinkContext;
use laminar_core::dead_letter::{LetterBuilder, Reason, Stage};
use laminar_core::sink::{Delivery, Marker, Sink};
use laminar_core::source::{RawRecord, RawRecords, TimestampType};
use laminar_core::{Changes, Code, Epoch, Error, PipelineId, Position, Result, TaskId};
use laminar_planner::statement::Replay;

use crate::dead_letters::StoredLetter;
use crate::outcome::LateNotices;
use crate::query::{self, QueryCatalog};
use crate::settings::Settings;
use crate::{Outcome, System};

pub(crate) async fn replay(system: &Arc<System>, settings: &Settings, replay: &Replay) -> Result<Outcome> {
    let catalog = system.catalog();
    let pipeline = catalog.pipeline(replay.pipeline.as_str()).map_err(|e| e.at(replay.pipeline.location))?;
    let chosen = chosen(system, settings, replay, &pipeline.name).await?;
    let mut by_table: BTreeMap<String, Vec<StoredLetter>> = BTreeMap::new();
    for letter in system.dead_letters().await? {
        let place =
            (letter.topic.clone(), i64::from(letter.partition), i64::try_from(letter.offset).unwrap_or(i64::MAX));
        let Some(table) = letter.about.get("table").filter(|_| chosen.contains(&place)).cloned() else { continue };
        by_table.entry(table).or_default().push(letter);
    }
    let ctx = SinkContext {
        instance: system.config.metastore.instance_id().to_string(),
        // One for all calls: a newcomer fences one that hangs, and nothing piles up in the cluster.
        pipeline: PipelineId::new(format!("replay-{}", pipeline.id)),
        delivery: None,
        checkpoint_interval: system.config.defaults.checkpoint_interval,
        clock: Arc::clone(&system.config.clock),
    };
    let mut count = 0;
    for (name, letters) in by_table {
        let Some(table) = catalog.snapshot.tables.get(&name) else { continue };
        let sink = system.planner.replay_sink(&catalog.snapshot, table, &ctx, &system.values(&catalog))?;
        count += letters.len();
        put_back(sink.as_ref(), &as_changes(pipeline.id.as_str(), &name, letters)?).await?;
    }
    Ok(Outcome::done(format!("REPLAY {count}")))
}

type Place = (String, i64, i64);

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

async fn put_back(sink: &dyn Sink, letters: &Changes) -> Result<()> {
    let committer = sink.committer().filter(|_| sink.delivery() == Delivery::ExactlyOnce);
    let last = match &committer {
        Some(committer) => committer.recover().await?.map_or(Epoch(0), |marker| marker.epoch),
        None => Epoch(0),
    };
    let task = TaskId { operator: "replay".into(), index: 0 };
    let mut writer = sink.open(&task).await?;
    writer.write(letters).await?;
    writer.flush(last.next()).await?;
    let Some(committer) = committer else { return Ok(()) };
    let marker = Marker {
        version: 1,
        epoch: last.next(),
        manifest_digest: String::new(),
        positions: BTreeMap::new(),
        watermark: None,
        previous: None,
    };
    committer.commit(&marker, &[]).await
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
