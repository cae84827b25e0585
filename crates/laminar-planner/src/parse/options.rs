//! Option lists: `(topic = 'orders', batch_size = 1000, 'auth.type' = 'sasl', snapshot.mode = initial,)`.
//!
//! A key is a word, words with dots, or a string. A value is kept as text; the option's own type reads it later.

use datafusion::sql::sqlparser::tokenizer::Token;
use laminar_core::options::OptionEntry;
use laminar_core::{Error, Location, Options, Result};

use super::Cursor;

/// The list in parentheses. Errors: `syntax_error`, `conflicting_options` for a key given twice.
pub fn parse(cursor: &mut Cursor<'_>) -> Result<Options> {
    cursor.expect(&Token::LParen)?;
    let mut entries = Vec::new();
    while !cursor.take(&Token::RParen) {
        let location = Some(cursor.here());
        let key = key(cursor)?;
        if !cursor.take(&Token::Eq) && !cursor.take(&Token::DoubleEq) {
            return Err(cursor.unexpected(&format!("'=' after option {key}")));
        }
        let start = cursor.here();
        let value = value(cursor, &key).map_err(|error| quote_it(cursor, start, error))?;
        entries.push(OptionEntry { value, key, location });
        if !cursor.take(&Token::Comma) && *cursor.peek() != Token::RParen {
            return Err(quote_it(cursor, start, cursor.unexpected("',' or ')'")));
        }
    }
    Options::new(entries)
}

/// The error with a hint, if what begins at `start` is one word that would be a value in quotes: `127.0.0.1:9092`, `/tmp/x`.
fn quote_it(cursor: &Cursor<'_>, start: Location, error: Error) -> Error {
    let word = cursor.word_at(start);
    match word.contains(['\'', '"', '=', '[', ';']) || word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true => error,
        false => error.with_hint(format!("quote it: '{word}'")).moved_to(Some(start)),
    }
}

/// The list after `WITH`, if there is one.
pub fn parse_with(cursor: &mut Cursor<'_>) -> Result<Options> {
    if cursor.take_word("WITH") { parse(cursor) } else { Ok(Options::default()) }
}

/// A key: `topic`, `'auth.type'`, `auth.type`.
pub fn key(cursor: &mut Cursor<'_>) -> Result<String> {
    let quoted = matches!(cursor.peek(), Token::SingleQuotedString(_));
    if quoted {
        return cursor.string("an option's name");
    }
    let mut key = word(cursor)?;
    while cursor.take(&Token::Period) {
        key.push('.');
        key.push_str(&word(cursor)?);
    }
    Ok(key)
}

fn word(cursor: &mut Cursor<'_>) -> Result<String> {
    match cursor.peek().clone() {
        Token::Word(word) => {
            cursor.sql.advance_token();
            Ok(if word.quote_style.is_some() { word.value } else { word.value.to_lowercase() })
        }
        _ => Err(cursor.unexpected("an option's name")),
    }
}

/// A value: a string, number, word, `INTERVAL '…'`, `5s`, `10 seconds` or a list of these in brackets.
pub fn value(cursor: &mut Cursor<'_>, key: &str) -> Result<String> {
    match cursor.peek().clone() {
        Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::DollarQuotedString(_) => {
            cursor.string("a value")
        }
        Token::Minus => {
            cursor.sql.advance_token();
            Ok(format!("-{}", number(cursor, key)?))
        }
        Token::Plus => {
            cursor.sql.advance_token();
            number(cursor, key)
        }
        Token::Number(..) => number(cursor, key),
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("interval") => {
            cursor.sql.advance_token();
            let mut text = cursor.string("an interval")?;
            if let Token::Word(unit) = cursor.peek().clone() {
                cursor.sql.advance_token();
                text = format!("{text} {}", unit.value);
            }
            Ok(text)
        }
        Token::Word(word) => {
            cursor.sql.advance_token();
            Ok(word.value)
        }
        Token::LBracket => list(cursor, key),
        _ => Err(cursor.unexpected(&format!("a value for option {key}"))),
    }
}

/// A number, and the unit behind it if there is one.
fn number(cursor: &mut Cursor<'_>, key: &str) -> Result<String> {
    let start = cursor.here();
    let Token::Number(digits, _) = cursor.peek().clone() else {
        return Err(cursor.unexpected(&format!("a number for option {key}")));
    };
    cursor.sql.advance_token();
    if !matches!(cursor.peek(), Token::Word(_)) {
        return Ok(digits);
    }
    cursor.sql.advance_token();
    Ok(cursor.text_from(start))
}

/// `['a', 'b']`, kept as a JSON array.
fn list(cursor: &mut Cursor<'_>, key: &str) -> Result<String> {
    cursor.expect(&Token::LBracket)?;
    let mut items = Vec::new();
    while !cursor.take(&Token::RBracket) {
        if *cursor.peek() == Token::LBracket {
            return Err(cursor.unexpected(&format!("a value for option {key}")));
        }
        items.push(serde_json::Value::String(value(cursor, key)?));
        if !cursor.take(&Token::Comma) && *cursor.peek() != Token::RBracket {
            return Err(cursor.unexpected("',' or ']'"));
        }
    }
    Ok(serde_json::Value::Array(items).to_string())
}
