//! Files as records: a split is a file, a record a line, a position the byte at which a line starts.
//!
//! ```text
//! {"a":1}\n{"a":2}\n{"a":3}        records at 0, 8, 16; the end is 23 (a last line without a line break counts)
//! ```
//!
//! The files of a reader are read one after the other, each batch from one of them; one that is paused is left for the next.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::source::{
    BatchLimit, Fetched, FetchedRecords, RawRecord, RawRecords, Run, SourceReader, TimestampType,
};
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Position, Result, SplitId};
use tokio::task::JoinHandle;

use super::file_error;

/// A longer line is an error: it must fit in memory several times.
const MAX_LINE_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// A file to read.
#[derive(Clone, Debug)]
pub struct FileSplit {
    pub split: SplitId,
    pub path: PathBuf,
    /// Byte at which the next line starts.
    pub position: u64,
}

/// What to do with a line that has nothing on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyLines {
    /// They are records (raw text).
    Keep,
    /// They are layout (JSON).
    Skip,
}

/// The length of the file in bytes. Errors: `file_error`.
pub fn length(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|e| file_error(path, "read", e))?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(file_error(path, "read", "it is not a file")) }
}

pub struct LinesReader {
    /// Where each split stands, counting only what `next` has returned.
    positions: Vec<(SplitId, Position)>,
    paused: BTreeSet<SplitId>,
    ended: Vec<SplitId>,
    clock: SharedClock,
    state: State,
}

/// The cursor is either here or in the hands of a blocking task; the task is kept, so that dropping a `next` loses nothing.
enum State {
    Idle(Cursor),
    Reading(JoinHandle<(Cursor, Result<Taken>)>),
    /// A read failed; the reader is not used again.
    Failed,
}

impl LinesReader {
    pub fn new(splits: Vec<FileSplit>, empty: EmptyLines, clock: SharedClock) -> Self {
        let positions = splits.iter().map(|s| (s.split.clone(), Position(s.position))).collect();
        let splits = splits.into_iter().map(|split| (split, false)).collect();
        let cursor = Cursor { splits, current: None, file: None, empty };
        Self { positions, paused: BTreeSet::new(), ended: Vec::new(), clock, state: State::Idle(cursor) }
    }
}

#[async_trait]
impl SourceReader for LinesReader {
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched> {
        if matches!(self.state, State::Idle(_))
            && let State::Idle(mut cursor) = std::mem::replace(&mut self.state, State::Failed)
        {
            let (now, paused) = (self.clock.now_micros(), self.paused.clone());
            self.state = State::Reading(tokio::task::spawn_blocking(move || {
                let batch = cursor.read(limit, now, &paused);
                (cursor, batch)
            }));
        }
        let State::Reading(task) = &mut self.state else {
            return Err(Error::internal("a failed reader was used again"));
        };
        let done = task.await;
        self.state = State::Failed;
        let (cursor, batch) =
            done.map_err(|e| Error::internal("reading a file ended unexpectedly").with_detail(e.to_string()))?;
        let batch = batch?;
        self.ended = cursor.ended();
        self.state = State::Idle(cursor);
        let batch = match batch {
            Taken::Batch(batch) => batch,
            Taken::End => return Ok(Fetched::End),
            // Until the caller lets one of them go on.
            Taken::Paused => return std::future::pending().await,
        };
        let entry = self.positions.iter_mut().find(|(split, _)| *split == batch.run.split);
        if let Some((_, position)) = entry {
            *position = batch.run.next;
        }
        let records =
            FetchedRecords { records: Box::new(batch.lines), runs: vec![batch.run], drained: batch.last, lost: 0 };
        Ok(Fetched::Records(records))
    }

    fn positions(&self) -> Vec<(SplitId, Position)> {
        self.positions.clone()
    }

    /// What is being read of a file at this moment is still returned.
    fn pause(&mut self, splits: &BTreeSet<SplitId>) -> Result<()> {
        self.paused.clone_from(splits);
        Ok(())
    }

    fn ended(&self) -> Vec<SplitId> {
        self.ended.clone()
    }
}

enum Taken {
    Batch(Batch),
    /// All files that are not at their end are paused.
    Paused,
    End,
}

struct Batch {
    lines: Lines,
    run: Run,
    /// Nothing follows.
    last: bool,
}

struct Cursor {
    /// Each with whether it is read to its end.
    splits: Vec<(FileSplit, bool)>,
    /// The one that `file` is open for.
    current: Option<usize>,
    file: Option<BufReader<File>>,
    empty: EmptyLines,
}

impl Cursor {
    /// The next lines, all of one file.
    fn read(&mut self, limit: BatchLimit, now: i64, paused: &BTreeSet<SplitId>) -> Result<Taken> {
        loop {
            let is_open = |(split, ended): &(FileSplit, bool)| !ended && !paused.contains(&split.split);
            let current = self.current.filter(|at| self.splits.get(*at).is_some_and(is_open));
            if current.is_none() {
                (self.current, self.file) = (self.splits.iter().position(is_open), None);
            }
            let Some((split, ended)) = self.current.and_then(|at| self.splits.get_mut(at)) else {
                return Ok(if self.splits.iter().all(|(_, ended)| *ended) { Taken::End } else { Taken::Paused });
            };
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(open_at(&split.path, split.position)?),
            };
            let mut lines =
                Lines { topic: split.path.to_string_lossy().into(), timestamp_micros: now, ..Lines::default() };
            *ended = lines.fill(file, split, limit, self.empty)?;
            if !lines.is_empty() {
                let run = Run { split: split.split.clone(), count: lines.len(), next: Position(split.position) };
                let last = self.splits.iter().all(|(_, ended)| *ended);
                return Ok(Taken::Batch(Batch { lines, run, last }));
            }
        }
    }

    fn ended(&self) -> Vec<SplitId> {
        self.splits.iter().filter(|(_, ended)| *ended).map(|(split, _)| split.split.clone()).collect()
    }
}

/// Opens the file where a line starts. Errors: `file_error`; `data_loss` if the file is no longer the one that was read.
fn open_at(path: &Path, position: u64) -> Result<BufReader<File>> {
    let failed = |e| file_error(path, "read", e);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let lost = |why: &str| {
        Error::new(Code::DataLoss, format!("{} changed since it was read up to byte {position}", path.display()))
            .with_detail(why.to_string())
    };
    if position > length {
        return Err(lost(&format!("it now has {length} bytes")));
    }
    if position > 0 {
        let mut before = [0];
        file.seek(SeekFrom::Start(position - 1)).map_err(failed)?;
        file.read_exact(&mut before).map_err(failed)?;
        if before != *b"\n" && position != length {
            return Err(lost("no line starts there"));
        }
    }
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// Lines of one file in one buffer: no allocation a line.
#[derive(Default)]
struct Lines {
    topic: Arc<str>,
    timestamp_micros: i64,
    bytes: Vec<u8>,
    /// Position in the file, then start and end in `bytes`.
    lines: Vec<(u64, usize, usize)>,
}

impl Lines {
    /// Reads up to `limit` and moves the split's position; true at the end of the file.
    fn fill(
        &mut self,
        file: &mut BufReader<File>,
        split: &mut FileSplit,
        limit: BatchLimit,
        empty: EmptyLines,
    ) -> Result<bool> {
        while self.lines.len() < limit.rows.max(1) && (self.lines.is_empty() || self.bytes.len() < limit.bytes) {
            let start = self.bytes.len();
            let read = file.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.bytes);
            let read = read.map_err(|e| file_error(&split.path, "read", e))? as u64;
            if read == 0 {
                return Ok(true);
            }
            if read > MAX_LINE_BYTES {
                let at = format!("line at byte {} of {}", split.position, split.path.display());
                return Err(Error::new(Code::BadData, format!("{at} is longer than {MAX_LINE_BYTES} bytes")));
            }
            let line = self.bytes.get(start..).unwrap_or_default();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if empty == EmptyLines::Keep || !line.iter().all(u8::is_ascii_whitespace) {
                self.lines.push((split.position, start, start + line.len()));
            }
            split.position += read;
        }
        Ok(false)
    }
}

impl RawRecords for Lines {
    fn len(&self) -> usize {
        self.lines.len()
    }
    fn get(&self, index: usize) -> RawRecord<'_> {
        let (position, start, end) = self.lines.get(index).copied().unwrap_or_default();
        RawRecord {
            key: None,
            value: self.bytes.get(start..end),
            timestamp_micros: self.timestamp_micros,
            timestamp_type: TimestampType::None,
            topic: &self.topic,
            partition: 0,
            position: Position(position),
            batch: Some((self, index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::time::ManualClock;

    use super::*;

    /// The next line; `None` at the end.
    async fn line(reader: &mut LinesReader) -> Option<String> {
        match reader.next(BatchLimit { rows: 1, bytes: 100 }).await.unwrap() {
            Fetched::Records(fetched) => {
                let value = fetched.records.get(0).value.unwrap().to_vec();
                Some(String::from_utf8(value).unwrap())
            }
            Fetched::End => None,
            Fetched::Rows(_) => panic!("lines are records"),
        }
    }

    #[tokio::test]
    async fn a_paused_file_is_left_for_the_next_and_goes_on_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let split = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            FileSplit { split: name.into(), path, position: 0 }
        };
        let splits = vec![split("a", "1\n2\n3\n"), split("b", "4\n5\n")];
        let mut reader = LinesReader::new(splits, EmptyLines::Skip, Arc::new(ManualClock::at_micros(0)));
        assert_eq!(line(&mut reader).await.as_deref(), Some("1"));
        reader.pause(&["a".into()].into()).unwrap();
        assert_eq!(line(&mut reader).await.as_deref(), Some("4"));
        reader.pause(&["b".into()].into()).unwrap();
        assert_eq!(line(&mut reader).await.as_deref(), Some("2"));
        assert_eq!(line(&mut reader).await.as_deref(), Some("3"));
        assert_eq!(reader.ended(), []);
        reader.pause(&["a".into()].into()).unwrap();
        assert_eq!(line(&mut reader).await.as_deref(), Some("5"));
        reader.pause(&BTreeSet::new()).unwrap();
        assert_eq!(line(&mut reader).await, None);
        assert_eq!(reader.ended(), ["a".into(), "b".into()]);
    }
}
