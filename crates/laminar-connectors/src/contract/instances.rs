//! Every connector that needs nothing outside, put through the contract, and what is particular to each.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::datatypes::DataType::{self, Int64, Utf8};
use laminar_core::connector::{Connector, Role};
use laminar_core::sink::Delivery;
use laminar_core::source::{BatchLimit, SplitStart, StartAt};
use laminar_core::{Code, Position};

use super::*;
use crate::blackhole::BlackholeConnector;
use crate::filesystem::FilesystemConnector;
use crate::memory::{MemoryConnector, MemoryLogs};
use crate::single_file::SingleFileConnector;
use crate::stdout::StdoutConnector;
use crate::{Registry, Surroundings};

const N: &[(&str, DataType)] = &[("n", Int64)];

fn lines(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

#[track_caller]
pub fn check_refused(connector: &dyn Connector, role: Role, pairs: &[(&str, &str)], table: &TableSpec, expected: &str) {
    let error = connector.check_table(role, &options(pairs), table).unwrap_err();
    assert_eq!(format!("{error:?}"), expected);
}

pub fn check_table_code(connector: &dyn Connector, role: Role) -> Code {
    connector.check_table(role, &options(&[]), &table(&[])).unwrap_err().code()
}

// --- single_file ---

#[tokio::test]
async fn a_file_is_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.json");
    let text = format!("{}\n  \r\n{}\r\n{}", lines(0..4), "{\"n\":4}", "{\"n\":5}");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let rows = rows_of(&SingleFileConnector::default(), &[("path", path)], &table(N)).await;
    assert_eq!(parse_numbers(rows.iter().map(String::as_str)), [0, 1, 2, 3, 4, 5]);
    let raw = table(&[("line", Utf8)]);
    let rows = rows_of(&SingleFileConnector::default(), &[("path", path), ("format", "raw")], &raw).await;
    assert_eq!(rows.len(), 8, "an empty line is a record of raw text");
}

#[tokio::test]
async fn a_file_that_changed_under_a_checkpoint_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.json");
    let text = path.to_str().unwrap();
    std::fs::write(&path, lines(0..4)).unwrap();
    let connector = SingleFileConnector::default();
    let source = connector.source(&options(&[("path", text)]), &table(N), &source_context()).unwrap();
    for (position, code) in [(1000, Code::DataLoss), (3, Code::DataLoss)] {
        let start = SplitStart { split: text.into(), at: StartAt::At(Position(position)) };
        let mut reader = source.open(vec![start]).await.unwrap();
        let Err(error) = reader.next(BatchLimit { rows: 1, bytes: 1 }).await else { panic!("{position}") };
        assert_eq!(error.code(), code);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(source.discover().await.unwrap_err().code(), Code::FileError);
}

#[tokio::test]
async fn a_file_is_written_exactly_once() {
    for one_process in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let pairs = options(&[("path", path.to_str().unwrap())]);
        let written = || std::fs::read_to_string(&path).map(|text| parse_numbers(text.lines())).unwrap_or_default();
        let processes = Processes::new(one_process, SingleFileConnector::default);
        let make = || processes.connector().sink(&pairs, &table(N), &sink_context(None)).unwrap();
        check_exactly_once_sink(make, written).await;
    }
}

#[tokio::test]
async fn a_file_is_appended_at_least_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let connector = SingleFileConnector::default();
    let context = sink_context(Some(Delivery::AtLeastOnce));
    let sink = connector.sink(&options(&[("path", path.to_str().unwrap())]), &table(N), &context).unwrap();
    check_at_least_once_sink(sink, || parse_numbers(std::fs::read_to_string(&path).unwrap().lines())).await;
}

#[tokio::test]
async fn options_of_files_are_checked() {
    let file = SingleFileConnector::default();
    let check = |pairs: &[(&str, &str)], expected| check_refused(&file, Role::Source, pairs, &table(N), expected);
    check(&[], "missing_option: connector single_file needs option path (hint: add path = '…')");
    check(
        &[("path", "x"), ("fromat", "raw")],
        "unknown_option: connector single_file has no option fromat (hint: did you mean format?)",
    );
    check(
        &[("path", "s3://bucket/x")],
        "not_supported: files at s3:// are not supported yet (hint: name a path of the server's file system)",
    );
    check(
        &[("path", "x"), ("batch_size", "0")],
        "invalid_option: option batch_size of a source cannot be '0': expected at least 1",
    );
    let folder = FilesystemConnector::default();
    let pairs = [("path", "x"), ("max_file_size", "1MB")];
    let expected = "conflicting_options: option max_file_size of connector filesystem is for sinks only";
    check_refused(&folder, Role::Source, &pairs, &table(N), expected);
    let pairs = [("path", "x"), ("pattern", "*")];
    let expected = "conflicting_options: option pattern of connector filesystem is for sources only";
    check_refused(&folder, Role::Sink, &pairs, &table(N), expected);
    let pairs = [("path", "x"), ("json.pretty", "true")];
    let expected = "conflicting_options: option json.pretty cannot be true: a row is one line";
    check_refused(&folder, Role::Sink, &pairs, &table(N), expected);

    let missing = file.check_outside(Role::Source, &options(&[("path", "/no/such/file")])).await.unwrap_err();
    assert_eq!(missing.code(), Code::FileError);
    let stages = file.test(&options(&[("path", "/no/such/file")])).await;
    assert_eq!(
        stages.iter().map(|s| (s.stage.as_str(), s.ok)).collect::<Vec<_>>(),
        [("options", true), ("write", false)]
    );
}

// --- filesystem ---

#[tokio::test]
async fn a_folder_is_read_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, numbers) in [("b.json", 4..9), ("a.json", 0..4), ("sub/c.json", 9..11), ("empty.json", 0..0)] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines(numbers)).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let pairs = [("path", path), ("recursive", "true"), ("pattern", "**/*.json")];
    let rows = rows_of(&FilesystemConnector::default(), &pairs, &table(N)).await;
    assert_eq!(parse_numbers(rows.iter().map(String::as_str)), (0..11).collect::<Vec<_>>());
}

fn in_folder(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    texts
}

#[tokio::test]
async fn a_folder_is_written_exactly_once() {
    for one_process in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let pairs = options(&[("path", path.to_str().unwrap()), ("max_records_per_file", "1")]);
        let written =
            || if path.exists() { parse_numbers(in_folder(&path).iter().flat_map(|t| t.lines())) } else { vec![] };
        let processes = Processes::new(one_process, FilesystemConnector::default);
        let make = || processes.connector().sink(&pairs, &table(N), &sink_context(None)).unwrap();
        check_exactly_once_sink(make, written).await;
    }
}

#[tokio::test]
async fn files_are_closed_when_they_are_full() {
    let folder = tempfile::tempdir().unwrap();
    let connector = FilesystemConnector::default();
    let context = sink_context(Some(Delivery::AtLeastOnce));
    let write = async |pairs: &[(&str, &str)], name: &str| {
        let path = folder.path().join(name);
        let mut all = pairs.to_vec();
        all.push(("path", path.to_str().unwrap()));
        let sink = connector.sink(&options(&all), &table(N), &context).unwrap();
        let mut writer = sink.open(&task(0)).await.unwrap();
        writer.write(&numbers(&[1, 2, 3, 4, 5])).await.unwrap();
        writer.flush(Epoch(1)).await.unwrap();
        let mut rows: Vec<usize> = in_folder(&path).iter().map(|text| text.lines().count()).collect();
        rows.sort();
        rows
    };
    assert_eq!(write(&[], "whole").await, [5]);
    assert_eq!(write(&[("max_records_per_file", "2")], "rows").await, [1, 2, 2]);
    assert_eq!(write(&[("max_file_size", "20B")], "bytes").await, [2, 3]);
}

#[tokio::test]
async fn a_folder_is_written_at_least_once() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = options(&[("path", folder.path().to_str().unwrap())]);
    let context = sink_context(Some(Delivery::AtLeastOnce));
    let sink = FilesystemConnector::default().sink(&pairs, &table(N), &context).unwrap();
    check_at_least_once_sink(sink, || parse_numbers(in_folder(folder.path()).iter().flat_map(|t| t.lines()))).await;
}

/// Connectors of one process, or of a new process for each job.
struct Processes<C> {
    make: fn() -> C,
    made: Mutex<Vec<Arc<C>>>,
    one: bool,
}

impl<C> Processes<C> {
    fn new(one: bool, make: fn() -> C) -> Self {
        Self { make, made: Mutex::new(vec![]), one }
    }
    /// The connector of the next job. The contract's last two sinks, the 7th and 8th, are of one job.
    fn connector(&self) -> Arc<C> {
        let mut made = self.made.lock().unwrap();
        let next = match made.last() {
            Some(last) if self.one || made.len() == 7 => last.clone(),
            _ => Arc::new((self.make)()),
        };
        made.push(next.clone());
        next
    }
}

// --- memory ---

#[tokio::test]
async fn a_log_is_read_to_its_end() {
    let logs = MemoryLogs::default();
    logs.append_json("in", &lines(0..10)).unwrap();
    logs.close("in");
    let connector = MemoryConnector::new(logs.clone());
    let rows = rows_of(&connector, &[("name", "in")], &table(N)).await;
    assert_eq!(parse_numbers(rows.iter().map(String::as_str)), (0..10).collect::<Vec<_>>());
    let rows = rows_of(&connector, &[("name", "in"), ("partitions", "3")], &table(N)).await;
    assert_eq!(parse_numbers(rows.iter().map(String::as_str)), [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]);
    assert_eq!(logs.append_json("in", "{}").unwrap_err().code(), Code::WrongState);
}

#[tokio::test]
async fn a_log_wakes_its_readers() {
    let logs = MemoryLogs::default();
    let source = MemoryConnector::new(logs.clone()).source(&options(&[]), &table(N), &source_context()).unwrap();
    let mut reader = source.open(starts(&*source).await).await.unwrap();
    let reading = tokio::spawn(async move { read_to_end(&*source, &mut *reader).await });
    for n in 0..5 {
        tokio::task::yield_now().await;
        logs.append_json("t", &lines(n..n + 1)).unwrap();
    }
    logs.close("t");
    let read: Vec<_> = reading.await.unwrap().into_values().flatten().collect();
    assert_eq!(parse_numbers(read.iter().map(String::as_str)), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_log_is_written_exactly_once() {
    let logs = MemoryLogs::default();
    let connector = MemoryConnector::new(logs.clone());
    let visible = |name: &'static str| parse_numbers(logs.records(name).iter().map(String::as_str));
    let make = || connector.sink(&options(&[("name", "out")]), &table(N), &sink_context(None)).unwrap();
    check_exactly_once_sink(make, || visible("out")).await;
    let context = sink_context(Some(Delivery::AtLeastOnce));
    let sink = connector.sink(&options(&[("name", "twice")]), &table(N), &context).unwrap();
    check_at_least_once_sink(sink, || visible("twice")).await;
}

// --- stdout and blackhole ---

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn rows_are_printed() {
    let output = Output::default();
    let connector = StdoutConnector::to(output.clone());
    let sink = connector.sink(&options(&[]), &table(N), &sink_context(None)).unwrap();
    let printed = || String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    check_at_least_once_sink(sink, || parse_numbers(printed().lines())).await;
    assert!(printed().starts_with("{\"n\":1}\n"));
}

#[tokio::test]
async fn rows_are_counted_and_forgotten() {
    let connector = BlackholeConnector::default();
    let sink = connector.sink(&options(&[]), &table(N), &sink_context(None)).unwrap();
    check_at_least_once_sink(sink, || (1..=connector.rows() as i64).collect()).await;
    let error = connector.check_connection(&options(&[("x", "1")])).unwrap_err();
    assert_eq!(error.code(), Code::UnknownOption);
}

#[test]
fn a_connector_says_what_its_sinks_promise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out").display().to_string();
    let connectors: [(Arc<dyn Connector>, Options); 5] = [
        (Arc::new(SingleFileConnector::default()), options(&[("path", &path)])),
        (Arc::new(FilesystemConnector::default()), options(&[("path", &path)])),
        (Arc::new(MemoryConnector::new(MemoryLogs::default())), options(&[("name", "out")])),
        (Arc::new(StdoutConnector::default()), options(&[])),
        (Arc::new(BlackholeConnector::default()), options(&[])),
    ];
    for (connector, given) in connectors {
        let sink = connector.sink(&given, &table(N), &sink_context(None)).unwrap();
        assert_eq!(sink.delivery(), connector.sink_delivery(), "{}", connector.name());
    }
}

#[test]
fn sinks_do_not_promise_what_they_cannot_keep() {
    let context = sink_context(Some(Delivery::ExactlyOnce));
    for connector in [&StdoutConnector::default() as &dyn Connector, &BlackholeConnector::default()] {
        let Err(error) = connector.sink(&options(&[]), &table(N), &context) else { panic!("{}", connector.name()) };
        assert_eq!(error.code(), Code::ConflictingOptions);
        assert_eq!(check_table_code(connector, Role::Source), Code::NotSupported);
    }
}

// --- the registry ---

#[test]
fn connectors_are_found_by_name() {
    let registry = Registry::builtin();
    let names: Vec<_> = registry.iter().map(|c| c.name()).collect();
    assert_eq!(
        names,
        ["blackhole", "datagen", "filesystem", "impulse", "kafka", "memory", "nexmark", "single_file", "stdout"]
    );
    assert_eq!(registry.get("Kafka").unwrap().name(), "kafka");
    let error = registry.get("kafak").err().unwrap();
    assert_eq!((error.code(), error.hint()), (Code::UnknownConnector, Some("did you mean kafka?")));
}

#[test]
fn schemas_describe_every_option() {
    for connector in Registry::builtin().iter() {
        let schemas = [connector.source_schema(), connector.sink_schema()];
        assert!(schemas.iter().any(Option::is_some), "{}", connector.name());
        for schema in schemas.into_iter().flatten() {
            let properties = schema["properties"].as_object().unwrap();
            let patterns = schema.get("patternProperties").and_then(|p| p.as_object().cloned()).unwrap_or_default();
            for (name, property) in properties.iter().chain(&patterns) {
                assert!(property.get("description").is_some(), "{} {name}", connector.name());
            }
        }
    }
}

#[test]
fn files_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let surroundings = Surroundings { files_dir: Some(folder.path().into()), ..Surroundings::default() };
    let registry = Registry::with(surroundings);
    for name in ["single_file", "filesystem"] {
        let connector = registry.get(name).unwrap();
        for role in [Role::Source, Role::Sink] {
            connector.check_table(role, &options(&[("path", "in.json")]), &table(N)).unwrap();
            let error = connector.check_table(role, &options(&[("path", "/etc/passwd")]), &table(N)).unwrap_err();
            assert_eq!(error.code(), Code::ForbiddenOption);
        }
    }
}
