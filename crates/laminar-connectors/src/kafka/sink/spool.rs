//! Encoded records that wait on disk, first in, first out.
//!
//! ```text
//!  push ─► [segment 3: frame frame …]   [segment 2: …]   [segment 1: ……frame frame] ─► pop
//!                                                          ▲ read so far; the file goes with its last frame
//! ```
//!
//! A frame is a slice of one topic's records. Nothing here outlives the process or the epoch: the files have no name once they
//! are open, so a crash leaves none behind, and what was in them is read again from the source. See ADR 0016.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use laminar_core::{Code, Error, Result};

use super::headers::{Headers, RecordHeaders};
use crate::kafka::producer::record::Record;

/// Length that stands for "there is none".
const NONE: u32 = u32::MAX;

/// Bytes before each frame: its length.
const LENGTH: usize = 8;

pub(crate) struct Spool {
    dir: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    bytes: u64,
    made: u64,
}

struct Segment {
    file: File,
    written: u64,
    read: u64,
}

/// Records of one topic that were on disk.
pub(crate) struct Frame {
    pub topic: usize,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    headers: RecordHeaders,
}

struct Row {
    partition: i32,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Spool {
    /// An empty one, whose files are made in `dir`.
    pub fn new(dir: &Path, segment_bytes: u64) -> Self {
        Self { dir: dir.to_path_buf(), segment_bytes, segments: VecDeque::new(), bytes: 0, made: 0 }
    }

    /// Bytes that wait, not what the files still hold of frames that are gone.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a frame that [`encode`] made. Blocks.
    ///
    /// Errors: `file_error`.
    pub fn push(&mut self, frame: &[u8]) -> Result<()> {
        if self.segments.back().is_none_or(|last| last.written >= self.segment_bytes) {
            let segment = self.segment().map_err(|e| self.failed("cannot be made", &e))?;
            self.segments.push_back(segment);
        }
        let Some(last) = self.segments.back_mut() else { return Err(damaged()) };
        let length = (frame.len() as u64).to_le_bytes();
        let written = last
            .file
            .write_all_at(&length, last.written)
            .and_then(|()| last.file.write_all_at(frame, last.written + LENGTH as u64));
        match written {
            Ok(()) => {
                last.written += (LENGTH + frame.len()) as u64;
                self.bytes += frame.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.failed("cannot be written", &error)),
        }
    }

    /// Takes the oldest frame. Blocks.
    ///
    /// Errors: `file_error`.
    pub fn pop(&mut self) -> Result<Option<Frame>> {
        while self.segments.len() > 1 && self.segments.front().is_some_and(Segment::is_read) {
            self.segments.pop_front();
        }
        let Some(first) = self.segments.front_mut().filter(|first| !first.is_read()) else { return Ok(None) };
        let mut length = [0; LENGTH];
        let mut frame = Vec::new();
        let read = first.file.read_exact_at(&mut length, first.read).and_then(|()| {
            frame.resize(usize::try_from(u64::from_le_bytes(length)).unwrap_or(0), 0);
            first.file.read_exact_at(&mut frame, first.read + LENGTH as u64)
        });
        if let Err(error) = read {
            return Err(self.failed("cannot be read", &error));
        }
        first.read += (LENGTH + frame.len()) as u64;
        if first.is_read() {
            self.segments.pop_front();
        }
        self.bytes = self.bytes.saturating_sub(frame.len() as u64);
        decode(frame).map(Some)
    }

    fn segment(&mut self) -> std::io::Result<Segment> {
        std::fs::create_dir_all(&self.dir)?;
        self.made += 1;
        let path = self.dir.join(format!("kafka-{:016x}-{}.spool", rand::random::<u64>(), self.made));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Segment { file, written: 0, read: 0 })
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        let what = format!("rows that wait for kafka {what} in {}", self.dir.display());
        Error::new(Code::FileError, what)
            .with_detail(error.to_string())
            .with_hint("make room there, lower buffer.per_partition_limit, or use buffer.mode = 'memory'")
    }
}

impl Segment {
    fn is_read(&self) -> bool {
        self.read >= self.written
    }
}

/// Writes records of a topic as one frame into `out`, which is cleared.
pub(crate) fn encode<'a>(topic: usize, records: impl Iterator<Item = Record<'a>>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&(topic as u64).to_le_bytes());
    for record in records {
        out.extend_from_slice(&record.partition.to_le_bytes());
        out.extend_from_slice(&record.timestamp.to_le_bytes());
        put(record.key, out);
        put(record.value, out);
        out.extend_from_slice(&u32::try_from(record.headers.len()).unwrap_or(NONE).to_le_bytes());
        for (name, value) in record.headers.iter() {
            put(Some(name), out);
            put(value, out);
        }
    }
}

fn put(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = bytes.map_or(NONE, |bytes| u32::try_from(bytes.len()).unwrap_or(NONE));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn decode(bytes: Vec<u8>) -> Result<Frame> {
    let mut cursor = Cursor { bytes: &bytes, at: 0 };
    let topic = usize::try_from(u64::from_le_bytes(cursor.number()?)).map_err(|_| damaged())?;
    let (mut rows, mut headers) = (Vec::new(), RecordHeaders::default());
    while cursor.at < bytes.len() {
        let partition = i32::from_le_bytes(cursor.number()?);
        let timestamp = i64::from_le_bytes(cursor.number()?);
        let (key, value) = (cursor.range()?, cursor.range()?);
        for _ in 0..u32::from_le_bytes(cursor.number()?) {
            let (name, value) = (cursor.range()?, cursor.range()?);
            let of = |range: Option<Range<usize>>| range.and_then(|range| bytes.get(range));
            headers.add(of(name).unwrap_or_default(), of(value));
        }
        headers.end_record();
        rows.push(Row { partition, timestamp, key, value });
    }
    Ok(Frame { topic, bytes, rows, headers })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let number = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or_else(damaged)?;
        self.at += N;
        Ok(*number)
    }

    fn range(&mut self) -> Result<Option<Range<usize>>> {
        let length = u32::from_le_bytes(self.number()?);
        if length == NONE {
            return Ok(None);
        }
        let end = self.at.checked_add(length as usize).filter(|end| *end <= self.bytes.len()).ok_or_else(damaged)?;
        let range = self.at..end;
        self.at = end;
        Ok(Some(range))
    }
}

fn damaged() -> Error {
    Error::internal("rows that wait for kafka on disk cannot be read back")
}

impl Frame {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.rows.iter().enumerate().map(|(index, row)| {
            let of = |range: &Option<Range<usize>>| range.clone().and_then(|range| self.bytes.get(range));
            Record {
                key: of(&row.key),
                value: of(&row.value),
                partition: row.partition,
                timestamp: row.timestamp,
                headers: self.headers.get(index),
            }
        })
    }

    /// Some records have a timestamp or headers.
    pub fn needs_more(&self) -> bool {
        self.records().any(|record| record.timestamp != 0 || record.headers.len() > 0)
    }

    /// Bytes of keys, values and headers.
    pub fn size(&self) -> usize {
        self.records().map(|record| record.len() + record.headers.size()).sum()
    }
}

impl Headers<'_> {
    /// The same names and values in the same order?
    #[cfg(test)]
    fn same(&self, other: &Headers<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Bytes = Option<Vec<u8>>;
    type Sample = (Bytes, Bytes, i32, i64, Vec<(Vec<u8>, Bytes)>);

    fn samples() -> impl Strategy<Value = Vec<Vec<Sample>>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        let headers = proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..5), bytes()), 0..3);
        let sample = (bytes(), bytes(), -1..5, 0..9_i64, headers);
        proptest::collection::vec(proptest::collection::vec(sample, 1..5), 1..20)
    }

    proptest! {
        /// Frames come back as they went in, in order, whatever is pushed and popped in between, over many files.
        #[test]
        fn what_goes_in_comes_out(frames in samples(), pops in proptest::collection::vec(any::<bool>(), 20)) {
            let dir = tempfile::tempdir().unwrap();
            let mut spool = Spool::new(dir.path(), 100);
            let (mut buffer, mut expected, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            let take = |spool: &mut Spool, seen: &mut Vec<(usize, Vec<Sample>)>| {
                let Some(frame) = spool.pop().unwrap() else { return false };
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let rows = frame.records().map(|r| {
                    let headers = r.headers.iter().map(|(name, value)| (name.to_vec(), owned(value))).collect();
                    (owned(r.key), owned(r.value), r.partition, r.timestamp, headers)
                });
                seen.push((frame.topic, rows.collect()));
                true
            };
            for (topic, (rows, pop)) in frames.into_iter().zip(pops).enumerate() {
                let mut headers = RecordHeaders::default();
                for row in &rows {
                    row.4.iter().for_each(|(name, value)| headers.add(name, value.as_deref()));
                    headers.end_record();
                }
                let records = rows.iter().enumerate().map(|(index, row)| Record {
                    key: row.0.as_deref(),
                    value: row.1.as_deref(),
                    partition: row.2,
                    timestamp: row.3,
                    headers: headers.get(index),
                });
                encode(topic, records, &mut buffer);
                spool.push(&buffer).unwrap();
                expected.push((topic, rows));
                if pop {
                    take(&mut spool, &mut seen);
                }
            }
            while take(&mut spool, &mut seen) {}
            prop_assert_eq!(seen, expected);
            prop_assert!(spool.bytes() == 0 && spool.segments.is_empty());
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Spool::new(&file, 100).push(b"12345678").unwrap_err();
        assert_eq!(error.code(), Code::FileError);
        assert!(error.message().contains("file"), "{error}");
    }

    #[test]
    fn headers_of_a_frame_are_those_of_its_records() {
        let mut headers = RecordHeaders::default();
        headers.add(b"a", Some(b"1"));
        headers.end_record();
        let record = Record { headers: headers.get(0), ..Record::new(Some(b"k"), None) };
        let mut buffer = Vec::new();
        encode(3, std::iter::once(record), &mut buffer);
        let frame = decode(buffer.clone()).unwrap();
        assert!(frame.needs_more() && frame.records().all(|r| r.headers.same(&headers.get(0))));
        assert_eq!((frame.len(), frame.size()), (1, 3));
        buffer.truncate(buffer.len() - 1);
        assert_eq!(decode(buffer).err().map(|e| e.code()), Some(Code::Internal));
    }
}
