//! Which statement it is, by its first words; the small ones are read here.

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem, SetExpr, Value,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Result};

use super::{Cursor, create, elsewhere, identifier_location, options, pipeline};
use crate::statement::{
    Drop, Explain, ExplainFormat, Insert, Name, ObjectKind, ObjectName, Parsed, PipelineStep, Replay, RestartFrom,
    ShowKind, SqlQuery, Statement, StopMode,
};

const FIRST_WORDS: &[&str] = &[
    "CREATE",
    "DROP",
    "SHOW",
    "DESCRIBE",
    "START",
    "STOP",
    "RESTART",
    "INSERT",
    "SELECT",
    "WITH",
    "SUBSCRIBE",
    "REPLAY",
    "EXPLAIN",
    "SET",
];

pub fn parse(cursor: &mut Cursor<'_>) -> Result<Parsed> {
    let start = cursor.here();
    let statement = statement(cursor)?;
    let mut text = cursor.text_from(start);
    if let Statement::CreateSecret(secret) = &statement {
        text = format!("CREATE SECRET {} AS '***'", quote_name(&secret.name.value));
    }
    Ok(Parsed { statement, text, start })
}

fn statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.take_word("CREATE") {
        return create::parse(cursor);
    }
    if cursor.is_word("INSERT") {
        return pipeline::insert(cursor).map(insert);
    }
    if cursor.at_query() {
        return Ok(match pipeline::step(cursor)? {
            PipelineStep::Insert(statement) => insert(statement),
            PipelineStep::Select(query) => match tested_connection(&query)? {
                Some(name) => Statement::TestConnection(name),
                None => Statement::Query(query),
            },
        });
    }
    if cursor.take_word("DROP") {
        return drop(cursor);
    }
    if cursor.is_word("SHOW")
        && let Some(error) = elsewhere::statement(cursor)
    {
        return Err(error);
    }
    if cursor.take_word("SHOW") {
        return show(cursor);
    }
    if cursor.take_word("DESCRIBE") || cursor.take_word("DESC") {
        return described(cursor).map(Statement::Describe);
    }
    if cursor.take_word("EXPLAIN") {
        return explain(cursor);
    }
    if cursor.take_word("SET") {
        return set(cursor);
    }
    if cursor.take_word("SUBSCRIBE") {
        cursor.expect_words(&["TO"])?;
        return cursor.object_name("pipeline").map(Statement::Subscribe);
    }
    if cursor.take_word("REPLAY") {
        return replay(cursor).map(Statement::ReplayDeadLetters);
    }
    if cursor.take_words(&["START", "PIPELINE"]) {
        return cursor.object_name("pipeline").map(Statement::StartPipeline);
    }
    if cursor.take_words(&["STOP", "PIPELINE"]) {
        return stop(cursor);
    }
    if cursor.take_words(&["RESTART", "PIPELINE"]) {
        return restart(cursor);
    }
    if ["START", "STOP", "RESTART"].iter().any(|word| cursor.take_word(word)) {
        return Err(cursor.unexpected("PIPELINE"));
    }
    Err(unknown_statement(cursor))
}

fn replay(cursor: &mut Cursor<'_>) -> Result<Replay> {
    cursor.expect_words(&["DLQ"])?;
    let pipeline = cursor.object_name("pipeline")?;
    let filter = if cursor.take_word("WHERE") { Some(cursor.expr()?) } else { None };
    let limit = if cursor.take_word("LIMIT") { Some(cursor.expr()?) } else { None };
    Ok(Replay { pipeline, filter, limit })
}

fn unknown_statement(cursor: &Cursor<'_>) -> Error {
    elsewhere::statement(cursor).unwrap_or_else(|| did_you_mean(cursor, "a statement", FIRST_WORDS))
}

/// The error for an unknown word, with the nearest of `words`.
pub fn did_you_mean(cursor: &Cursor<'_>, expected: &str, words: &[&str]) -> Error {
    let error = cursor.unexpected(expected);
    match nearest(&cursor.peek().to_string(), words.iter().copied()) {
        Some(word) => error.with_hint(format!("did you mean {word}?")),
        None => error,
    }
}

fn insert(insert: Insert) -> Statement {
    let one_shot = match insert.query.ast.body.as_ref() {
        SetExpr::Values(_) => true,
        SetExpr::Select(select) => select.from.is_empty(),
        _ => false,
    };
    if one_shot { Statement::InsertValues(insert) } else { Statement::InsertSelect(insert) }
}

fn kind(cursor: &mut Cursor<'_>) -> Option<ObjectKind> {
    use ObjectKind::*;
    [Secret, Connection, Table, View, Pipeline].into_iter().find(|kind| cursor.take_word(kind.as_str()))
}

fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let kinds = ["SECRET", "CONNECTION", "TABLE", "VIEW", "PIPELINE"];
    let Some(kind) = kind(cursor) else {
        return Err(did_you_mean(cursor, "SECRET, CONNECTION, TABLE, VIEW or PIPELINE", &kinds));
    };
    let if_exists = cursor.take_words(&["IF", "EXISTS"]);
    Ok(Statement::Drop(Drop { kind, name: cursor.object_name(kind.as_str())?, if_exists }))
}

fn show(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.take_word("CREATE") {
        return object(cursor).map(Statement::ShowCreate);
    }
    if let Some((_, kind)) = ShowKind::WORDS.into_iter().find(|(word, _)| cursor.take_word(word)) {
        return Ok(Statement::Show(kind));
    }
    if cursor.take_word("ALL") {
        return Ok(Statement::ShowAll);
    }
    setting(cursor).map(Statement::ShowSetting)
}

/// As [`object`], or a table of the system: `system.jobs` is one name here.
fn described(cursor: &mut Cursor<'_>) -> Result<ObjectName> {
    let here = Some(cursor.here());
    if cursor.is_word("SYSTEM") && cursor.sql.peek_nth_token_ref(1).token == Token::Period {
        cursor.sql.advance_token();
        cursor.sql.advance_token();
        let name = cursor.object_name("system table")?;
        return Ok(ObjectName { kind: None, name: Name { value: format!("system.{}", name.value), location: here } });
    }
    object(cursor)
}

/// `[TABLE] orders`. A kind without a name behind it is a name.
fn object(cursor: &mut Cursor<'_>) -> Result<ObjectName> {
    let named = matches!(cursor.sql.peek_nth_token_ref(1).token, Token::Word(_));
    let kind = if named { kind(cursor) } else { None };
    let what = kind.map_or("table, view or pipeline", ObjectKind::as_str);
    Ok(ObjectName { kind, name: cursor.object_name(what)? })
}

fn stop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = cursor.object_name("pipeline")?;
    let mode = if cursor.take_words(&["WITH", "CHECKPOINT"]) { StopMode::Checkpoint } else { StopMode::Immediate };
    Ok(Statement::StopPipeline { name, mode })
}

fn restart(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = cursor.object_name("pipeline")?;
    let from = if cursor.take_words(&["FROM", "CHECKPOINT"]) {
        let number = match cursor.peek() {
            Token::Number(digits, _) => digits.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return Err(cursor.unexpected("the number of a checkpoint")) };
        cursor.sql.advance_token();
        RestartFrom::Checkpoint(number)
    } else if cursor.take_words(&["IGNORING", "STATE"]) {
        RestartFrom::Nothing
    } else {
        RestartFrom::Latest
    };
    Ok(Statement::RestartPipeline { name, from })
}

fn explain(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let bracket =
        *cursor.peek() == Token::LParen && (cursor.is_word_at(1, "FORMAT") || cursor.is_word_at(1, "VERBOSE"));
    if bracket {
        cursor.expect(&Token::LParen)?;
    }
    let mut format = ExplainFormat::Text;
    if cursor.take_word("VERBOSE") {
        format = ExplainFormat::Verbose;
    } else if cursor.take_word("FORMAT") {
        format = match () {
            _ if cursor.take_word("JSON") => ExplainFormat::Json,
            _ if cursor.take_word("TEXT") => ExplainFormat::Text,
            _ => return Err(cursor.unexpected("JSON or TEXT")),
        };
    }
    if bracket {
        cursor.expect(&Token::RParen)?;
    }
    if cursor.is_word("EXPLAIN") {
        return Err(cursor.unexpected("a statement to explain"));
    }
    let at = cursor.here();
    let statement = statement(cursor)?;
    match statement {
        Statement::Query(_)
        | Statement::InsertSelect(_)
        | Statement::InsertValues(_)
        | Statement::CreatePipeline(_) => Ok(Statement::Explain(Explain { statement: Box::new(statement), format })),
        _ => Err(Error::new(Code::NotSupported, "only queries, INSERT and CREATE PIPELINE can be explained").at(at)),
    }
}

fn set(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = setting(cursor)?;
    if !cursor.take(&Token::Eq) && !cursor.take_word("TO") {
        return Err(cursor.unexpected("'=' and a value"));
    }
    let value = options::value(cursor, &name.value)?;
    Ok(Statement::Set { name, value })
}

fn setting(cursor: &mut Cursor<'_>) -> Result<Name> {
    let location = Some(cursor.here());
    Ok(Name { value: options::key(cursor)?, location })
}

/// The argument of `SELECT test_connection('name')`.
fn tested_connection(query: &SqlQuery) -> Result<Option<Name>> {
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return Ok(None) };
    let expr = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => expr,
        _ => return Ok(None),
    };
    let Expr::Function(function) = expr else { return Ok(None) };
    let ident = match function.name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    };
    let Some(ident) = ident.filter(|ident| ident.value.eq_ignore_ascii_case("test_connection")) else {
        return Ok(None);
    };
    let location = identifier_location(ident);
    match (&function.args, select.from.is_empty()) {
        (FunctionArguments::List(list), true) => match list.args.as_slice() {
            [
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ast::ValueWithSpan {
                    value: Value::SingleQuotedString(name),
                    ..
                }))),
            ] => Ok(Some(Name { value: name.clone(), location })),
            _ => Err(wrong_test().at(location)),
        },
        _ => Err(wrong_test().at(location)),
    }
}

fn wrong_test() -> Error {
    Error::new(Code::WrongArguments, "test_connection takes the name of one connection")
        .with_hint("SELECT test_connection('name')")
}

/// A name as it must be written to mean itself.
pub(crate) fn quote_name(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_lowercase() || c == '_')
        && name.chars().all(|c| c == '_' || c.is_ascii_digit() || (c.is_alphabetic() && c.is_lowercase()));
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
