//! `CREATE` of secrets, connections and views, and what is common to all: OR REPLACE, IF NOT EXISTS.

use datafusion::sql::sqlparser::tokenizer::Token;
use laminar_core::{Code, Error, Options, Result};

use super::{Cursor, options, pipeline, table};
use crate::statement::{CreateConnection, CreateSecret, CreateView, OnExisting, Statement};

const KINDS: &str = "SECRET, CONNECTION, TABLE, VIEW or PIPELINE";

/// Everything behind `CREATE`.
pub fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let replace = cursor.take_words(&["OR", "REPLACE"]);
    refuse(cursor)?;
    let kinds = ["SECRET", "CONNECTION", "TABLE", "VIEW", "PIPELINE"];
    let Some(kind) = kinds.into_iter().find(|kind| cursor.take_word(kind)) else {
        return Err(super::statement::did_you_mean(cursor, KINDS, &kinds));
    };
    let at = cursor.here();
    let on_existing = match (replace, cursor.take_words(&["IF", "NOT", "EXISTS"])) {
        (false, false) => OnExisting::Fail,
        (false, true) => OnExisting::Keep,
        (true, false) => OnExisting::Replace,
        (true, true) => {
            return Err(super::cursor::syntax_error("OR REPLACE and IF NOT EXISTS exclude each other").at(at));
        }
    };
    Ok(match kind {
        "SECRET" => Statement::CreateSecret(secret(cursor, on_existing)?),
        "CONNECTION" => Statement::CreateConnection(connection(cursor, on_existing)?),
        "TABLE" => Statement::CreateTable(table::parse(cursor, on_existing)?),
        "VIEW" => Statement::CreateView(view(cursor, on_existing)?),
        _ => Statement::CreatePipeline(pipeline::parse(cursor, on_existing)?),
    })
}

fn secret(cursor: &mut Cursor<'_>, on_existing: OnExisting) -> Result<CreateSecret> {
    let name = cursor.object_name("secret")?;
    cursor.expect_words(&["AS"])?;
    Ok(CreateSecret { name, value: cursor.string("the secret")?, on_existing })
}

fn connection(cursor: &mut Cursor<'_>, on_existing: OnExisting) -> Result<CreateConnection> {
    let name = cursor.object_name("connection")?;
    if !cursor.take_word("TO") {
        return Err(cursor
            .unexpected("TO and a connector")
            .with_hint("CREATE CONNECTION name TO kafka (bootstrap_servers = '…')"));
    }
    let connector = cursor.name("connector")?;
    let options = match cursor.peek() {
        Token::LParen => options::parse(cursor)?,
        _ => Options::default(),
    };
    Ok(CreateConnection { name, connector, options, on_existing })
}

fn view(cursor: &mut Cursor<'_>, on_existing: OnExisting) -> Result<CreateView> {
    let name = cursor.object_name("view")?;
    let columns = match cursor.peek() {
        Token::LParen => cursor.names("column")?,
        _ => Vec::new(),
    };
    cursor.expect_words(&["AS"])?;
    if !cursor.at_query() {
        return Err(cursor.unexpected("SELECT, WITH or VALUES"));
    }
    let query = cursor.query()?;
    pipeline::refuse_changes(&query)?;
    Ok(CreateView { name, columns, query, on_existing })
}

/// Kinds that other systems have.
fn refuse(cursor: &Cursor<'_>) -> Result<()> {
    let hint = match () {
        _ if cursor.is_word("MATERIALIZED") => {
            "a pipeline without a sink keeps its result: CREATE PIPELINE name AS SELECT …"
        }
        _ if cursor.is_word("STREAM") => {
            "a stream is a table of a topic: CREATE TABLE name (…) WITH (connector = 'kafka', …); one of a query is a pipeline: CREATE PIPELINE name AS SELECT …"
        }
        _ if cursor.is_word("TEMPORARY") || cursor.is_word("TEMP") => {
            "leave the word out, and DROP the object when it is no longer needed"
        }
        _ if cursor.is_word("INDEX")
            || cursor.is_word("SCHEMA")
            || cursor.is_word("DATABASE")
            || cursor.is_word("FUNCTION") =>
        {
            "what can be created: SECRET, CONNECTION, TABLE, VIEW, PIPELINE"
        }
        _ => return Ok(()),
    };
    let word = if cursor.is_word("MATERIALIZED") {
        "MATERIALIZED VIEW".to_string()
    } else {
        cursor.peek().to_string().to_uppercase()
    };
    Err(Error::new(Code::NotSupported, format!("CREATE {word} is not supported")).with_hint(hint).at(cursor.here()))
}
