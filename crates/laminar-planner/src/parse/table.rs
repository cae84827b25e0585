//! `CREATE TABLE`: columns, keys, watermark, options, query.

use datafusion::sql::sqlparser::tokenizer::Token;
use laminar_core::{Code, Error, Result};

use super::{Cursor, options};
use crate::statement::{ColumnSyntax, CreateTable, Name, OnExisting, SqlExpr, WatermarkSyntax};

/// Everything behind `CREATE TABLE [IF NOT EXISTS]`.
pub fn parse(cursor: &mut Cursor<'_>, on_existing: OnExisting) -> Result<CreateTable> {
    let name = cursor.object_name("table")?;
    let mut elements = Elements::default();
    if *cursor.peek() == Token::LParen {
        elements.parse(cursor)?;
    }
    let options = options::parse_with(cursor)?;
    let query = match cursor.take_word("AS") {
        true => Some(cursor.query()?),
        false => None,
    };
    let Elements { columns, primary_key, watermark } = elements;
    Ok(CreateTable { name, columns, primary_key, watermark, options, query, on_existing })
}

#[derive(Default)]
struct Elements {
    columns: Vec<ColumnSyntax>,
    primary_key: Vec<Name>,
    watermark: Option<WatermarkSyntax>,
}

impl Elements {
    fn parse(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        cursor.expect(&Token::LParen)?;
        while !cursor.take(&Token::RParen) {
            self.element(cursor)?;
            if !cursor.take(&Token::Comma) && *cursor.peek() != Token::RParen {
                return Err(cursor.unexpected("',' or ')'"));
            }
        }
        Ok(())
    }

    fn element(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let here = cursor.here();
        if cursor.take_word("CONSTRAINT") {
            cursor.name("constraint")?;
            if !(cursor.is_word("PRIMARY") && cursor.is_word_at(1, "KEY")) {
                return Err(cursor.unexpected("PRIMARY KEY"));
            }
        }
        if cursor.take_words(&["PRIMARY", "KEY"]) {
            let names = cursor.names("column")?;
            return self.set_primary_key(names);
        }
        if cursor.take_words(&["WATERMARK", "FOR"]) {
            let watermark = watermark(cursor)?;
            if self.watermark.replace(watermark).is_some() {
                return Err(super::cursor::syntax_error("a table has at most one WATERMARK FOR").at(here));
            }
            return Ok(());
        }
        refuse(cursor, &["UNIQUE", "CHECK", "FOREIGN"], 1)?;
        let (column, is_key) = column(cursor)?;
        if is_key {
            self.set_primary_key(vec![column.name.clone()])?;
        }
        self.columns.push(column);
        Ok(())
    }

    fn set_primary_key(&mut self, names: Vec<Name>) -> Result<()> {
        if self.primary_key.is_empty() {
            self.primary_key = names;
            return Ok(());
        }
        let place = names.first().and_then(|n| n.location);
        Err(super::cursor::syntax_error("a table has at most one PRIMARY KEY")
            .with_hint("for a key of several columns write PRIMARY KEY (a, b)")
            .at(place))
    }
}

fn watermark(cursor: &mut Cursor<'_>) -> Result<WatermarkSyntax> {
    let column = cursor.name("column")?;
    let expr = match cursor.take_word("AS") {
        true => Some(cursor.expr()?),
        false => None,
    };
    Ok(WatermarkSyntax { column, expr })
}

/// A column, and whether `PRIMARY KEY` stands on it.
fn column(cursor: &mut Cursor<'_>) -> Result<(ColumnSyntax, bool)> {
    let name = cursor.name("column")?;
    if matches!(cursor.peek(), Token::Comma | Token::RParen | Token::Eq) {
        return Err(cursor.unexpected(&format!("the type of column {}", name.value)));
    }
    let sql_type = cursor.data_type()?;
    let mut column = ColumnSyntax { name, sql_type, nullable: true, default: None, generated: None, metadata: None };
    let mut is_key = false;
    loop {
        if cursor.take_words(&["NOT", "NULL"]) {
            column.nullable = false;
        } else if cursor.take_words(&["PRIMARY", "KEY"]) {
            is_key = true;
        } else if cursor.take_word("NULL") {
            column.nullable = true;
        } else if cursor.take_word("DEFAULT") {
            column.default = Some(cursor.expr()?);
        } else if cursor.take_words(&["GENERATED", "ALWAYS", "AS"]) {
            column.generated = Some(generated(cursor)?);
        } else if cursor.is_word("METADATA") {
            column.metadata = Some(metadata(cursor, &column.name)?);
        } else {
            refuse(cursor, &["UNIQUE", "CHECK", "REFERENCES", "COMMENT", "COLLATE", "CONSTRAINT"], 0)?;
            return Ok((column, is_key));
        }
    }
}

fn generated(cursor: &mut Cursor<'_>) -> Result<SqlExpr> {
    cursor.expect(&Token::LParen)?;
    let expr = cursor.expr()?;
    cursor.expect(&Token::RParen)?;
    if !cursor.take_word("VIRTUAL") {
        cursor.take_word("STORED");
    }
    Ok(expr)
}

/// `METADATA FROM 'key'`; `METADATA` alone means the column's own name.
fn metadata(cursor: &mut Cursor<'_>, column: &Name) -> Result<Name> {
    let location = Some(cursor.here());
    cursor.expect_words(&["METADATA"])?;
    let value = match cursor.take_word("FROM") {
        true => cursor.string("a metadata key")?,
        false => column.value.clone(),
    };
    Ok(Name { value, location })
}

/// Refuses constraints that exist in SQL but not here. With `skip` 1 the word counts only if `(` follows, or a word for
/// FOREIGN KEY: else it is a column's name.
fn refuse(cursor: &Cursor<'_>, words: &[&str], skip: usize) -> Result<()> {
    for word in words {
        let follows = skip == 0
            || matches!(cursor.sql.peek_nth_token_ref(1).token, Token::LParen)
            || (*word == "FOREIGN" && cursor.is_word_at(1, "KEY"));
        if cursor.is_word(word) && follows {
            return Err(Error::new(Code::NotSupported, format!("{word} constraints are not supported"))
                .with_hint("columns take NOT NULL, PRIMARY KEY, DEFAULT, GENERATED ALWAYS AS and METADATA FROM")
                .at(cursor.here()));
        }
    }
    Ok(())
}
