//! What every connector must keep, as checks that any of them can be put through.
//!
//! Sources: positions resume exactly, dropping a `next` loses nothing, bounded ones end and stay ended. Sinks that promise
//! exactly-once: nothing is visible before its commit, everything after it, a newcomer knows the last marker, and what is
//! older is fenced.

mod generated;
mod instances;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use laminar_core::connector::{Connector, SinkContext, SourceContext};
use laminar_core::sink::{Delivery, Marker, Sink, SinkWriter};
use laminar_core::source::{BatchLimit, Fetched, Source, SourceReader, SplitStart, StartAt};
use laminar_core::table::{Column, TableSpec};
use laminar_core::time::{ManualClock, SharedClock};
use laminar_core::{Changes, Code, Epoch, Options, Result, SplitId, TaskId};

pub fn clock() -> SharedClock {
    Arc::new(ManualClock::at_micros(1_700_000_000_000_000))
}

pub fn options(pairs: &[(&str, &str)]) -> Options {
    Options::from_pairs(pairs.iter().copied())
}

/// A table of nullable columns, all of them read.
pub fn table(columns: &[(&str, DataType)]) -> TableSpec {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        json: false,
        metadata: None,
    };
    TableSpec {
        name: "t".into(),
        columns: columns.iter().map(column).collect(),
        projection: (0..columns.len()).collect(),
        event_time: None,
        primary_key: vec![],
    }
}

pub fn source_context() -> SourceContext {
    SourceContext { pipeline: Some("p".into()), clock: clock(), partitions: None }
}

pub fn sink_context(delivery: Option<Delivery>) -> SinkContext {
    let checkpoint_interval = Duration::from_secs(10);
    SinkContext { instance: "i".into(), pipeline: "p".into(), delivery, checkpoint_interval, clock: clock() }
}

pub fn marker(epoch: u64) -> Marker {
    let positions = BTreeMap::new();
    let manifest_digest = format!("digest-{epoch}");
    Marker { version: 1, epoch: Epoch(epoch), manifest_digest, positions, watermark: None, previous: None }
}

/// Rows that a reader returned: per split, each row as JSON.
pub type Read = BTreeMap<SplitId, Vec<String>>;

const LIMIT: BatchLimit = BatchLimit { rows: 3, bytes: 1 << 20 };

fn as_lines(rows: &RecordBatch) -> Vec<String> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_string).collect()
}

/// Adds what was fetched to `read`; false at the end.
fn add(source: &dyn Source, fetched: Fetched, read: &mut Read) -> bool {
    let (lines, runs) = match fetched {
        Fetched::End => return false,
        Fetched::Rows(rows) => {
            assert_eq!(rows.times.len(), rows.rows.num_rows());
            (as_lines(&rows.rows), rows.runs)
        }
        Fetched::Records(fetched) => {
            let mut decoder = source.decoder().unwrap().expect("records need a decoder");
            for index in 0..fetched.records.len() {
                decoder.push(&fetched.records.get(index)).unwrap();
            }
            let rows = decoder.flush().unwrap().map(|changes| changes.rows().clone());
            (rows.as_ref().map(as_lines).unwrap_or_default(), fetched.runs)
        }
    };
    assert!(lines.len() <= LIMIT.rows, "the limit holds");
    assert_eq!(runs.iter().map(|run| run.count).sum::<usize>(), lines.len(), "runs cover the rows");
    let mut lines = lines.into_iter();
    for run in runs {
        read.entry(run.split).or_default().extend(lines.by_ref().take(run.count));
    }
    true
}

async fn starts(source: &dyn Source) -> Vec<SplitStart> {
    let splits = source.discover().await.unwrap();
    assert_eq!(splits, source.discover().await.unwrap(), "splits have a stable order");
    splits.into_iter().map(|split| SplitStart { split, at: StartAt::Configured }).collect()
}

async fn read_to_end(source: &dyn Source, reader: &mut dyn SourceReader) -> Read {
    let mut read = Read::new();
    while add(source, reader.next(LIMIT).await.unwrap(), &mut read) {}
    assert!(matches!(reader.next(LIMIT).await.unwrap(), Fetched::End), "the end is the end");
    read
}

/// Puts a bounded source through all checks; returns its rows.
pub async fn check_bounded_source(source: Arc<dyn Source>) -> Read {
    let starts = starts(&*source).await;
    let all = read_to_end(&*source, &mut *source.open(starts.clone()).await.unwrap()).await;

    // From the positions after every batch, the rest follows.
    let mut reader = source.open(starts.clone()).await.unwrap();
    let mut before = Read::new();
    loop {
        let positions = reader.positions();
        assert_eq!(positions.len(), starts.len(), "every split has a position");
        let again = positions.into_iter().map(|(split, at)| SplitStart { split, at: StartAt::At(at) }).collect();
        let rest = read_to_end(&*source, &mut *source.open(again).await.unwrap()).await;
        let mut together = before.clone();
        for (split, rows) in rest {
            together.entry(split).or_default().extend(rows);
        }
        assert_eq!(together, all, "resumed at {:?}", reader.positions());
        if !add(&*source, reader.next(LIMIT).await.unwrap(), &mut before) {
            break;
        }
    }

    // A `next` that is polled once and dropped loses nothing.
    let mut reader = source.open(starts.clone()).await.unwrap();
    let mut read = Read::new();
    loop {
        let polled = {
            let mut next = reader.next(LIMIT);
            poll_fn(|ctx| match next.as_mut().poll(ctx) {
                Poll::Ready(fetched) => Poll::Ready(Some(fetched)),
                Poll::Pending => Poll::Ready(None),
            })
            .await
        };
        let fetched = match polled {
            Some(fetched) => fetched,
            None => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        if !add(&*source, fetched.unwrap(), &mut read) {
            break;
        }
    }
    assert_eq!(read, all, "after dropped calls");

    // The ends are where reading ends, and nothing is behind them.
    let splits: Vec<SplitId> = starts.iter().map(|s| s.split.clone()).collect();
    let ends = source.ends(&splits).await.unwrap();
    let at_end = splits
        .into_iter()
        .zip(ends)
        .map(|(split, end)| SplitStart { split, at: end.map_or(StartAt::Configured, StartAt::At) })
        .collect();
    assert_eq!(read_to_end(&*source, &mut *source.open(at_end).await.unwrap()).await, Read::new());
    all
}

/// All rows of a bounded source, in the order of splits.
pub async fn rows_of(connector: &dyn Connector, pairs: &[(&str, &str)], table: &TableSpec) -> Vec<String> {
    let source = connector.source(&options(pairs), table, &source_context()).unwrap();
    check_bounded_source(source).await.into_values().flatten().collect()
}

fn task(index: u32) -> TaskId {
    TaskId { operator: "sink-1".into(), index }
}

pub fn numbers(values: &[i64]) -> Changes {
    let column = Arc::new(Int64Array::from(values.to_vec())) as arrow::array::ArrayRef;
    let rows = RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap();
    Changes::inserts(rows, TimestampMicrosecondArray::from_iter_values(values.iter().copied())).unwrap()
}

async fn writers(sink: &dyn Sink) -> Vec<Box<dyn SinkWriter>> {
    vec![sink.open(&task(0)).await.unwrap(), sink.open(&task(1)).await.unwrap()]
}

async fn write_epoch(writers: &mut [Box<dyn SinkWriter>], epoch: u64, values: [&[i64]; 2]) -> Result<()> {
    for (writer, values) in writers.iter_mut().zip(values) {
        for value in values {
            writer.write(&numbers(&[*value])).await?;
        }
    }
    for writer in writers {
        writer.flush(Epoch(epoch)).await?;
    }
    Ok(())
}

/// Puts a sink of a table with column `n BIGINT` through all checks. `make` makes the sink of a new job, `visible` says
/// which numbers an outside reader sees, in any order.
pub async fn check_exactly_once_sink(make: impl Fn() -> Arc<dyn Sink>, visible: impl Fn() -> Vec<i64>) {
    let sorted = || {
        let mut numbers = visible();
        numbers.sort();
        numbers
    };
    let first = make();
    assert_eq!(first.delivery(), Delivery::ExactlyOnce);
    let committer = first.committer().unwrap();
    assert_eq!(committer.recover().await.unwrap(), None);
    let mut open = writers(&*first).await;
    write_epoch(&mut open, 1, [&[1, 2], &[3]]).await.unwrap();
    assert_eq!(sorted(), [0; 0], "nothing before the commit");
    committer.commit(&marker(1), &[]).await.unwrap();
    assert_eq!(sorted(), [1, 2, 3]);

    // An epoch without rows has a marker too.
    write_epoch(&mut open, 2, [&[], &[]]).await.unwrap();
    committer.commit(&marker(2), &[]).await.unwrap();

    // The job dies with an open epoch, after a flush and before one.
    for (epoch, flushed) in [(2, true), (3, false)] {
        let job = make();
        let committer = job.committer().unwrap();
        assert_eq!(committer.recover().await.unwrap(), Some(marker(epoch)));
        let mut open = writers(&*job).await;
        let before = sorted();
        if flushed {
            write_epoch(&mut open, epoch + 1, [&[70], &[80]]).await.unwrap();
        } else {
            open[0].write(&numbers(&[90])).await.unwrap();
        }
        drop((open, committer, job));
        assert_eq!(sorted(), before);
        let next = make();
        let committer = next.committer().unwrap();
        assert_eq!(committer.recover().await.unwrap(), Some(marker(epoch)));
        assert_eq!(sorted(), before, "what was not committed is gone");
        let mut open = writers(&*next).await;
        write_epoch(&mut open, epoch + 1, [&[10 * epoch as i64], &[]]).await.unwrap();
        committer.commit(&marker(epoch + 1), &[]).await.unwrap();
    }
    assert_eq!(sorted(), [1, 2, 3, 20, 30]);

    // The very first job wakes up: it cannot add anything.
    let woken = write_epoch(&mut open, 3, [&[666], &[666]]).await;
    let woken = match woken {
        Ok(()) => committer.commit(&marker(3), &[]).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(woken.code(), Code::Fenced);
    assert_eq!(committer.commit(&marker(3), &[]).await.unwrap_err().code(), Code::Fenced);
    assert_eq!(make().committer().unwrap().recover().await.unwrap(), Some(marker(4)));
    assert_eq!(sorted(), [1, 2, 3, 20, 30]);

    // Two sinks of one job into one place share the transaction: the first committer decides for both.
    let (one, two) = (make(), make());
    let committer = one.committer().unwrap();
    assert_eq!(committer.id(), two.committer().unwrap().id());
    committer.recover().await.unwrap();
    let mut of_one = writers(&*one).await;
    let mut of_two = writers(&*two).await;
    write_epoch(&mut of_one, 5, [&[40], &[]]).await.unwrap();
    write_epoch(&mut of_two, 5, [&[], &[50]]).await.unwrap();
    committer.commit(&marker(5), &[]).await.unwrap();
    assert_eq!(sorted(), [1, 2, 3, 20, 30, 40, 50]);

    // An epoch that was flushed and given up goes on into the next one's commit.
    write_epoch(&mut of_one, 6, [&[60], &[61]]).await.unwrap();
    write_epoch(&mut of_two, 6, [&[], &[]]).await.unwrap();
    write_epoch(&mut of_one, 7, [&[70], &[]]).await.unwrap();
    write_epoch(&mut of_two, 7, [&[71], &[]]).await.unwrap();
    assert_eq!(sorted(), [1, 2, 3, 20, 30, 40, 50]);
    committer.commit(&marker(7), &[]).await.unwrap();
    assert_eq!(sorted(), [1, 2, 3, 20, 30, 40, 50, 60, 61, 70, 71]);
    assert_eq!(make().committer().unwrap().recover().await.unwrap(), Some(marker(7)));
}

/// Puts a sink without transactions through what it promises: flushed rows are there.
pub async fn check_at_least_once_sink(sink: Arc<dyn Sink>, visible: impl Fn() -> Vec<i64>) {
    assert_eq!(sink.delivery(), Delivery::AtLeastOnce);
    assert!(sink.committer().is_none());
    let mut open = writers(&*sink).await;
    write_epoch(&mut open, 1, [&[1, 2], &[3]]).await.unwrap();
    write_epoch(&mut open, 2, [&[4], &[]]).await.unwrap();
    let mut numbers = visible();
    numbers.sort();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

/// The numbers in lines such as `{"n":1}`.
pub fn parse_numbers<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<i64> {
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_i64().unwrap();
    lines.into_iter().map(number).collect()
}
