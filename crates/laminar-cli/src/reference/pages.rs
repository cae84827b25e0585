//! The pages, one function each.

use std::path::Path;
use std::sync::Arc;

use clap::CommandFactory;
use laminar_connectors::Registry;
use laminar_connectors::batch::BatchOptions;
use laminar_connectors::kafka::{Allowed, ClientProperty, client_properties};
use laminar_core::connector::{Connector, Role};
use laminar_core::{Code, ErrorKind, Retry};
use laminar_formats::FormatOptions;
use laminar_planner::settings::{PipelineOptions, TableSettings};
use laminar_session::reference::{session_settings, system_tables};
use serde_json::Value;

use super::options::{OptionRow, as_table, rows, schema_of, without};
use super::{Page, code, commands, table};
use crate::{Args, settings};

/// Every page, the index first.
pub fn all() -> Vec<Page> {
    let mut pages: Vec<Page> = vec![tables(), formats(), pipelines()];
    pages.extend(Registry::builtin().iter().map(connector));
    pages.extend([system(), configuration(), errors()]);
    pages.insert(0, index(&pages));
    pages
}

/// The pages that are written by hand: name, title, what is there.
pub const WRITTEN: [(&str, &str, &str); 2] = [
    ("sql.md", "SQL", "Statements, types, literals, functions, and what a pipeline may contain."),
    (
        "seeds.md",
        "Capabilities",
        "What tremor, EMQX, Bytewax and Laminar say they do with Kafka, how it is written here, and the test of each.",
    ),
];

fn index(pages: &[Page]) -> Page {
    let [sql, seeds] = WRITTEN.map(|(file, title, about)| vec![format!("[{title}]({file})"), about.to_string()]);
    let line = |page: &Page| vec![format!("[{}]({}.md)", page.title, page.path), page.about.clone()];
    let api =
        vec!["[REST API](openapi.json)".to_string(), "Every request and answer, as an OpenAPI document.".to_string()];
    let body = table(&["page", "what is there"], [sql].into_iter().chain(pages.iter().map(line)).chain([api, seeds]));
    Page::new("README", "Reference", "Every statement, option, setting, column and error code.", body)
}

const WRITING: &str = "\
Text is quoted, numbers and booleans may be. A duration is written `500ms`, `5s` or `1 minute` (a bare number is seconds), a size `896KB`
or `2GB` (KB is 1024 bytes), a list `'a,b,c'`. A name with a dot is quoted too: `'auth.username' = 'ada'`. A value may hold
`${secret:name}`, which is the secret of `CREATE SECRET name AS '…'`, and `${env:NAME}`, if the server allows it.";

fn tables() -> Page {
    let (table_options, batch) = (schema_of::<TableSettings>(), schema_of::<BatchOptions>());
    let body = format!(
        "{WRITING}\n\n\
         An option may stand in `CREATE CONNECTION`, except `connector` and `connection`; then it counts for all tables of the connection, and \
         one that a table gives itself wins.\n\n\
         ## Every table\n\n{}\n\
         ## Batches of a source\n\n\
         How many records a source hands on at a time, whatever the connector.\n\n{}",
        as_table(&rows(Some(&table_options))),
        as_table(&rows(Some(&batch)))
    );
    Page::new("tables", "Options of tables", "What `CREATE TABLE … WITH (…)` takes, whatever the connector.", body)
}

fn formats() -> Page {
    let body = format!(
        "Each of these may stand in the `WITH (…)` of a table or a connection whose connector reads or writes records.\n\n{}",
        as_table(&rows(Some(&schema_of::<FormatOptions>())))
    );
    Page::new("formats", "Formats", "How the bytes of a record become columns, and columns bytes.", body)
}

fn pipelines() -> Page {
    let body = format!(
        "{}\nThe defaults that are the server's are in [its settings](configuration.md).",
        as_table(&rows(Some(&schema_of::<PipelineOptions>())))
    );
    Page::new("pipelines", "Options of pipelines", "What `CREATE PIPELINE name WITH (…) AS …` takes.", body)
}

fn connector(connector: &Arc<dyn Connector>) -> Page {
    let shared = [schema_of::<FormatOptions>(), schema_of::<BatchOptions>()];
    let (source, sink) = (connector.source_schema(), connector.sink_schema());
    let has = |name: &str| {
        let schemas = source.iter().chain(&sink);
        schemas.filter_map(|s| s.get("properties")?.get(name)).next().is_some()
    };
    let own = |schema: &Option<Value>| rows(schema.as_ref().map(|s| without(s, &shared)).as_ref());
    let (of_source, of_sink) = (own(&source), own(&sink));
    let is_shared = |row: &OptionRow| of_source.contains(row) && of_sink.contains(row);
    let only = |rows: &[OptionRow]| rows.iter().filter(|row| !is_shared(row)).cloned().collect::<Vec<_>>();
    let both: Vec<OptionRow> = of_source.iter().filter(|row| is_shared(row)).cloned().collect();

    let mut text = match (&source, &sink) {
        (Some(_), Some(_)) => "Its tables are read as sources and written as sinks.\n\n",
        (Some(_), None) => "Its tables are sources: they are read, not written.\n\n",
        (None, _) => "Its tables are sinks: they are written, not read.\n\n",
    }
    .to_string();
    if let Some(example) = example(connector.name()) {
        text.push_str(&format!("```sql\n{}\n```\n\n", example.trim()));
    }
    let elsewhere = [
        Some("[every table](../tables.md#every-table)"),
        has("batch_size").then_some("[batches](../tables.md#batches-of-a-source), for a source"),
        has("format").then_some("[formats](../formats.md)"),
    ];
    let elsewhere: Vec<&str> = elsewhere.into_iter().flatten().collect();
    text.push_str(&format!("Besides the options on this page, it takes those of {}.\n\n", elsewhere.join(", and of ")));
    for (title, rows) in [("Source and sink", both), ("Source", only(&of_source)), ("Sink", only(&of_sink))] {
        if !rows.is_empty() {
            text.push_str(&format!("## {title}\n\n{}\n", as_table(&rows)));
        }
    }
    text.push_str(&metadata(connector.as_ref()));
    if connector.name() == "kafka" {
        text.push_str(&librdkafka());
    }
    Page::new(&format!("connectors/{}", connector.name()), connector.name(), connector.description(), text)
}

/// Statements that show the connector at work; the end-to-end tests run them as the page shows them.
fn example(connector: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reference/examples");
    std::fs::read_to_string(folder.join(connector).with_extension("sql")).ok()
}

fn metadata(connector: &dyn Connector) -> String {
    if connector.metadata_columns().is_empty() {
        return String::new();
    }
    let row = |m: &laminar_core::connector::MetadataColumn| {
        vec![code(m.key), code(m.column), m.sql_type.to_string(), m.description.to_string()]
    };
    let rows = connector.metadata_columns().iter().map(row);
    let mut text = format!(
        "## Metadata columns\n\n\
         A column `name TYPE METADATA FROM 'key'` of a source is filled from the record's metadata. With `include_metadata = true`, so is \
         every column that has one of the names below.\n\n{}\n",
        table(&["key", "name", "type", "what it is"], rows)
    );
    if !connector.sink_metadata_columns().is_empty() {
        let rows = connector.sink_metadata_columns().iter().map(row);
        text.push_str(&format!(
            "## Columns that are not part of the value\n\n\
             In a table with `type = 'sink'`, or made AS SELECT, a column with one of these names, or `METADATA FROM 'key'`, becomes this part of \
             each record.\n\n{}\n",
            table(&["key", "name", "type", "what it is"], rows)
        ));
    }
    text
}

fn librdkafka() -> String {
    let all = client_properties();
    let of = |role: Option<Role>| {
        let names = all.iter().filter(|p| p.allowed == Allowed::Yes && p.role == role).map(|p| code(p.name));
        names.collect::<Vec<_>>().join(", ")
    };
    let java = all.iter().filter_map(|p| Some(format!("{} for {}", code(p.java?), code(p.name))));
    let set = all.iter().filter_map(|p| match p.allowed {
        Allowed::Only(value, why) => Some(vec![code(p.name), format!("only {}", code(value)), why.to_string()]),
        Allowed::Yes | Allowed::No(_) => None,
    });
    format!(
        "## Properties of librdkafka\n\n\
         Any of these may be given too, quoted: `'fetch.min.bytes' = '1024'`. What each means is in librdkafka's own list, CONFIGURATION.md. \
         The Java client's names work where they differ: {}.\n\n\
         - Source and sink: {}.\n- Source: {}.\n- Sink: {}.\n\n\
         These are refused, and so is every name that is not on this page:\n\n{}",
        java.collect::<Vec<_>>().join(", "),
        of(None),
        of(Some(Role::Source)),
        of(Some(Role::Sink)),
        table(&["property", "allowed", "why"], set.chain(refused(&all)))
    )
}

/// One row for each reason.
fn refused(all: &[ClientProperty]) -> Vec<Vec<String>> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for property in all {
        let Allowed::No(why) = property.allowed else { continue };
        let name = code(&family(property, all).unwrap_or_else(|| property.name.to_string()));
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    reasons.into_iter().map(|(why, names)| vec![names.join(", "), "no".to_string(), why.to_string()]).collect()
}

/// `sasl.oauthbearer.*`, where a name has many relatives and all are judged alike.
fn family(property: &ClientProperty, all: &[ClientProperty]) -> Option<String> {
    let prefix = format!("{}.", property.name.splitn(3, '.').take(2).collect::<Vec<_>>().join("."));
    let relatives = || all.iter().filter(|p| p.name.starts_with(&prefix));
    let alike = relatives().all(|p| p.allowed == property.allowed);
    (relatives().count() > 3 && alike).then(|| format!("{prefix}*"))
}

fn system() -> Page {
    let section = |t: &laminar_session::reference::SystemTableInfo| {
        let row = |c: &laminar_session::reference::SystemColumnInfo| {
            vec![code(c.name), c.sql_type.to_string(), c.about.to_string()]
        };
        format!(
            "## system.{}\n\n{}\n\n{}\n",
            t.name,
            t.about,
            table(&["column", "type", "meaning"], t.columns.iter().map(row))
        )
    };
    let body = system_tables().iter().map(section).collect::<String>();
    let about = "What runs and what is defined, as tables: `SELECT * FROM system.jobs`. `SHOW JOBS` and its like show a few of the columns.";
    Page::new("system-tables", "System tables", about, body)
}

fn configuration() -> Page {
    let variables = settings::VARIABLES.iter().map(|(name, about)| {
        let (about, default) = about.split_once(" Default: ").unwrap_or((about, ""));
        vec![code(name), default.to_string(), format!("{}.", about.trim_end_matches('.'))]
    });
    let of_session =
        session_settings().into_iter().map(|(name, value, about)| vec![code(&name), code(&value), format!("{about}.")]);
    let body = format!(
        "A flag wins over its variable. A variable that begins with `LAMINAR_` and looks like a misspelt one is warned of at the start.\n\n{}\
         ## Variables without a flag\n\n{}\n\
         Credentials of an object store (`--state-url s3://…`) are read from the variables that its own tools use, such as `AWS_ACCESS_KEY_ID`, \
         `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and `AWS_ENDPOINT`.\n\n\
         ## Settings of a session\n\n\
         `SET name = value` changes one until the session ends, `SHOW ALL` lists them. Until then the server's flags of the same names decide.\n\n{}",
        commands::sections(Args::command()),
        table(&["variable", "default", "meaning"], variables),
        table(&["setting", "default", "meaning"], of_session)
    );
    Page::new(
        "configuration",
        "Configuration",
        "What the commands of `laminar` can be told, by flag or by environment.",
        body,
    )
}

fn errors() -> Page {
    let of = |kind: ErrorKind| Code::ALL.iter().filter(move |c| c.kind() == kind);
    let row = |c: &Code| {
        let status = laminar_api::error::status_of(*c).as_u16().to_string();
        vec![code(c.as_str()), status, code(c.sqlstate()), c.description().trim().to_string()]
    };
    let fate = |c: &Code| match laminar_core::Error::new(*c, "").retry() {
        Retry::Backoff => "starts again".to_string(),
        Retry::Never => "stays failed".to_string(),
    };
    let head = ["code", "HTTP", "SQLSTATE", "meaning"];
    let with_fate = |c: &Code| [row(c), vec![fate(c)]].concat();
    let body = format!(
        "The same code appears in SQL, REST (`error.code`), the command line and `system.jobs.failure_code`. Codes do not change; messages may.\n\n\
         ## Of the statement or request\n\n\
         Its author must change it. A pipeline that fails with one of these stays failed.\n\n{}\n\
         ## Of an outside system\n\n\
         Whoever runs it must act. Where it may pass, a pipeline starts again by itself, unless `on_failure = 'stop'`.\n\n{}\n\
         ## Of Laminar\n\n\
         Please report it. A pipeline starts again by itself, unless `on_failure = 'stop'`.\n\n{}",
        table(&head, of(ErrorKind::User).map(row)),
        table(&[&head[..], &["a pipeline"]].concat(), of(ErrorKind::External).map(with_fate)),
        table(&head, of(ErrorKind::Internal).map(row)),
    );
    Page::new("errors", "Error codes", "What each code means, and who can do something about it.", body)
}
