//! What a pipeline computes: `INSERT`, `WITH … INSERT`, `SELECT`, `BEGIN … END`.

use datafusion::sql::sqlparser::ast::{self, SetExpr, TableObject};
use datafusion::sql::sqlparser::tokenizer::Token;
use laminar_core::{Code, Error, Result};

use super::{Cursor, identifier_location, identifier_text, options};
use crate::statement::{CreatePipeline, Insert, Name, OnExisting, PipelineBody, PipelineStep, SqlQuery};

/// Everything behind `CREATE PIPELINE [IF NOT EXISTS]`.
pub fn parse(cursor: &mut Cursor<'_>, on_existing: OnExisting) -> Result<CreatePipeline> {
    let name = cursor.object_name("pipeline")?;
    let options = options::parse_with(cursor)?;
    cursor.expect_words(&["AS"])?;
    Ok(CreatePipeline { name, options, body: body(cursor)?, on_existing })
}

fn body(cursor: &mut Cursor<'_>) -> Result<PipelineBody> {
    if !cursor.take_word("BEGIN") {
        return Ok(PipelineBody { steps: vec![step(cursor)?] });
    }
    let mut steps = Vec::new();
    while !cursor.take_word("END") {
        if cursor.take_semicolon() {
            continue;
        }
        let at = cursor.here();
        match step(cursor)? {
            step @ PipelineStep::Insert(_) => steps.push(step),
            PipelineStep::Select(_) => {
                return Err(Error::new(Code::NotSupported, "BEGIN … END holds INSERTs only")
                    .with_hint("a SELECT is a pipeline of its own, whose result is kept under the pipeline's name")
                    .at(at));
            }
        }
        if !cursor.is_word("END") && !cursor.take_semicolon() {
            return Err(cursor.unexpected("a semicolon or END"));
        }
    }
    if steps.is_empty() {
        return Err(super::cursor::syntax_error("the pipeline has no INSERT").at(cursor.here()));
    }
    Ok(PipelineBody { steps })
}

/// One `INSERT` or query.
pub fn step(cursor: &mut Cursor<'_>) -> Result<PipelineStep> {
    if cursor.is_word("INSERT") {
        return insert(cursor).map(PipelineStep::Insert);
    }
    if !cursor.at_query() {
        return Err(cursor.unexpected("INSERT, SELECT or WITH"));
    }
    let query = cursor.query()?;
    if !matches!(*query.ast.body, SetExpr::Insert(_)) {
        refuse_changes(&query)?;
        return Ok(PipelineStep::Select(query));
    }
    with_insert(query).map(PipelineStep::Insert)
}

/// `INSERT INTO t [(a, b)] query`.
pub fn insert(cursor: &mut Cursor<'_>) -> Result<Insert> {
    cursor.expect_words(&["INSERT", "INTO"])?;
    let table = cursor.object_name("table")?;
    let mut columns = Vec::new();
    let lists_columns = *cursor.peek() == Token::LParen
        && !["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is_word_at(1, word))
        && cursor.sql.peek_nth_token_ref(1).token != Token::LParen;
    if lists_columns {
        columns = cursor.names("column")?;
    }
    if !cursor.at_query() {
        return Err(cursor.unexpected("SELECT, WITH or VALUES"));
    }
    let query = cursor.query()?;
    refuse_changes(&query)?;
    Ok(Insert { table, columns, query })
}

/// `WITH a AS (…) INSERT INTO t SELECT …`: the same as `INSERT INTO t WITH a AS (…) SELECT …`.
fn with_insert(whole: SqlQuery) -> Result<Insert> {
    let start = whole.start;
    let ast::Query { with, body, .. } = *whole.ast;
    let SetExpr::Insert(ast::Statement::Insert(insert)) = *body else { return Err(not_an_insert().at(start)) };
    let TableObject::TableName(name) = &insert.table else { return Err(not_an_insert().at(start)) };
    let table = match name.0.as_slice() {
        [part] => part.as_ident().map(to_name),
        _ => None,
    };
    let (Some(table), Some(mut query)) = (table, insert.source) else { return Err(not_an_insert().at(start)) };
    let plain =
        insert.on.is_none() && insert.returning.is_none() && insert.partitioned.is_none() && insert.or.is_none();
    if !plain || insert.overwrite || !insert.assignments.is_empty() {
        return Err(not_an_insert().at(table.location));
    }
    query.with = match (with, query.with.take()) {
        (Some(mut outer), Some(inner)) => {
            outer.cte_tables.extend(inner.cte_tables);
            outer.recursive |= inner.recursive;
            Some(outer)
        }
        (outer, inner) => outer.or(inner),
    };
    let columns =
        insert.columns.iter().map(column_name).collect::<Option<Vec<_>>>().ok_or_else(|| not_an_insert().at(start))?;
    let query = SqlQuery { ast: query, text: whole.text, start, emit: whole.emit };
    refuse_changes(&query)?;
    Ok(Insert { table, columns, query })
}

fn column_name(name: &ast::ObjectName) -> Option<Name> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(to_name),
        _ => None,
    }
}

fn to_name(ident: &ast::Ident) -> Name {
    Name { value: identifier_text(ident), location: identifier_location(ident) }
}

fn not_an_insert() -> Error {
    Error::new(Code::NotSupported, "this form of INSERT is not supported").with_hint("write INSERT INTO table SELECT …")
}

/// UPDATE, DELETE, MERGE and INSERT where a query belongs.
pub fn refuse_changes(query: &SqlQuery) -> Result<()> {
    match *query.ast.body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(Error::new(Code::NotSupported, "a query cannot change tables").at(query.start))
        }
        _ => Ok(()),
    }
}
