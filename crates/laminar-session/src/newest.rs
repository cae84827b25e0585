//! The newest records of a source, up to where its splits end now.

use std::collections::BTreeMap;

use laminar_core::source::{BatchLimit, Fetched, RawRecord, Source, SourceReader, SplitStart, StartAt};
use laminar_core::{Position, Result, SplitId};

const FETCH: BatchLimit = BatchLimit { rows: 1_024, bytes: 4 << 20 };

/// Shows `take` the last `most` records of each split; splits come in any order.
pub(crate) async fn newest(source: &dyn Source, most: u64, mut take: impl FnMut(&RawRecord<'_>) + Send) -> Result<()> {
    let splits = source.discover().await?;
    let ends = source.ends(&splits).await?;
    let mut open: BTreeMap<SplitId, Position> =
        splits.into_iter().zip(ends).filter_map(|(split, end)| Some((split, end?))).collect();
    let mut reader = open_near_the_end(source, &open, most).await?;
    loop {
        for (split, position) in reader.positions() {
            if open.get(&split).is_some_and(|end| position >= *end) {
                open.remove(&split);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let Fetched::Records(fetched) = reader.next(FETCH).await? else { return Ok(()) };
        for index in 0..fetched.records.len() {
            take(&fetched.records.get(index));
        }
    }
}

/// A reader over the last `most` records of each split.
async fn open_near_the_end(
    source: &dyn Source,
    ends: &BTreeMap<SplitId, Position>,
    most: u64,
) -> Result<Box<dyn SourceReader>> {
    let beginning = ends.keys().map(|split| SplitStart { split: split.clone(), at: StartAt::Beginning });
    let reader = source.open(beginning.collect()).await?;
    let mut skips = false;
    let near = |(split, first): (SplitId, Position)| {
        let last = ends.get(&split).map_or(0, |end| end.0).saturating_sub(most);
        skips |= last > first.0;
        SplitStart { split, at: StartAt::At(Position(first.0.max(last))) }
    };
    let starts: Vec<_> = reader.positions().into_iter().map(near).collect();
    if skips { source.open(starts).await } else { Ok(reader) }
}
