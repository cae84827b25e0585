//! `INFER TABLE`: a sample of a topic's records to the CREATE TABLE that reads them. Nothing is created.

use std::time::Duration;

use laminar_core::connector::SourceContext;
use laminar_core::options::OptionEntry;
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::infer::{Inferred, infer};
use laminar_planner::catalog::ObjectRef;
use laminar_planner::statement::{ColumnSyntax, CreateTable, InferTable, Name, ObjectKind, OnExisting};
use laminar_planner::types::SqlType;
use tokio::time::timeout;

use crate::newest::newest;
use crate::outcome::Notice;
use crate::render::{self, Secrets};
use crate::system::{ColumnType, batch};
use crate::{Outcome, System};

/// Records that are looked at, the newest of each partition.
const SAMPLE: u64 = 200;
/// And of all partitions together, in bytes.
const SAMPLE_BYTES: usize = 16 << 20;
/// Longest wait for them.
const PATIENCE: Duration = Duration::from_secs(9);

/// Errors: `unknown_connection`, `unknown_topic`, `unreachable`, `timeout`; `bad_data` if no record is a JSON object.
pub(crate) async fn infer_table(system: &System, statement: &InferTable) -> Result<Outcome> {
    let catalog = system.catalog();
    if !catalog.contains(&ObjectRef::new(ObjectKind::Connection, &statement.connection.value)) {
        return Err(catalog.unknown(ObjectKind::Connection, &statement.connection));
    }
    let values = system.values(&catalog);
    let bytes = column("value", SqlType::parse("BYTEA")?);
    let raw = create(statement, vec![bytes], &[("format", "raw"), ("offset", "earliest")]);
    let def = system.planner.check_table(&catalog.snapshot, &raw, &values)?;
    let ctx = SourceContext { pipeline: None, clock: system.config.clock.clone(), partitions: None };
    let source = system.planner.open_source(&catalog.snapshot, &def, &[0], &ctx, &values)?.node.source;
    let (mut sample, mut bytes, mut framed) = (Vec::new(), 0, 0);
    let read = newest(source.as_ref(), SAMPLE, |record| {
        // A tombstone says nothing.
        let Some(value) = record.value.filter(|value| bytes + value.len() <= SAMPLE_BYTES) else { return };
        bytes += value.len();
        framed += usize::from(value.len() > 5 && value.first() == Some(&0));
        sample.push(value.to_vec());
    });
    timeout(PATIENCE, read).await.unwrap_or_else(|_| {
        let what = format!("topic {} was not read within {} s", statement.topic, PATIENCE.as_secs());
        Err(Error::new(Code::Timeout, what))
    })?;
    if framed * 2 > sample.len() {
        let what = format!("records of topic {} begin with the id of a registered schema", statement.topic);
        return Err(Error::new(Code::NotSupported, what).with_hint(
            "leave the columns out: CREATE TABLE t WITH (connector = 'c', topic = '…', type = 'source', format = 'avro' or 'protobuf') takes \
             those of the schema",
        ));
    }
    let Inferred { format, columns, refused } = infer(&sample).map_err(|error| match sample.is_empty() {
        true => Error::new(Code::BadData, format!("topic {} has no records yet", statement.topic)),
        false => error,
    })?;
    let columns = columns.iter().map(|c| column(&c.name, SqlType::from_arrow(&c.field()))).collect();
    let table = create(statement, columns, &[("format", format)]);
    let def = system.planner.check_table(&catalog.snapshot, &table, &values)?;
    let sql = format!("{};", render::table(&def, Secrets::Masked(&[])));
    let notices = match refused {
        0 => vec![],
        _ => vec![Notice::new(
            "bad_records",
            format!("{refused} of the {} records that were looked at do not fit", sample.len()),
        )],
    };
    let rows = batch(&[("create_table", ColumnType::Text)], vec![vec![sql.into()]])?;
    Ok(Outcome::rows_with("INFER TABLE", rows, notices))
}

fn column(name: &str, sql_type: SqlType) -> ColumnSyntax {
    ColumnSyntax { name: Name::new(name), sql_type, nullable: true, default: None, generated: None, metadata: None }
}

fn create(statement: &InferTable, columns: Vec<ColumnSyntax>, more: &[(&str, &str)]) -> CreateTable {
    let mut options = Options::default();
    let own = [("connector", statement.connection.as_str()), ("topic", statement.topic.as_str()), ("type", "source")];
    for (key, value) in own.iter().chain(more) {
        options.set(OptionEntry { key: (*key).to_string(), value: (*value).to_string(), location: None });
    }
    CreateTable {
        name: statement.name.clone(),
        columns,
        primary_key: Vec::new(),
        watermark: None,
        options,
        query: None,
        on_existing: OnExisting::Fail,
    }
}
