//! The token stream: sqlparser's parser with our words, names and errors.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{self, Span, Token, TokenWithSpan, Tokenizer, Word};
use laminar_core::{Code, Error, Location, Result};

use crate::dialect::LaminarDialect;
use crate::limits;
use crate::script::{Script, location};
use crate::statement::{EmitEvery, Name, SqlExpr, SqlQuery};

/// Longest name of an object or column.
const MAX_NAME_CHARS: usize = 255;
/// sqlparser's own limit, which counts up to four for each bracket: ours are the ones that users meet.
const MAX_RECURSION: usize = 4 * limits::MAX_NESTING + 40;

pub(crate) struct Cursor<'a> {
    pub sql: Parser<'a>,
    script: Script<'a>,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, dialect: &'a LaminarDialect) -> Result<Self> {
        limits::check_length(text)?;
        let script = Script::new(text);
        let tokens = Tokenizer::new(dialect, text).tokenize_with_location();
        let mut tokens = tokens.map_err(|e| syntax_error(lower_first(&e.message)).at(location(e.location)))?;
        limits::check(&tokens)?;
        let Location { line, column } = script.end();
        let end = tokenizer::Location { line, column };
        free_names(&mut tokens);
        tokens.push(TokenWithSpan::new(Token::EOF, Span::new(end, end)));
        Ok(Self {
            sql: Parser::new(dialect).with_recursion_limit(MAX_RECURSION).with_tokens_with_locations(tokens),
            script,
        })
    }

    /// Where the next token starts.
    pub fn here(&self) -> Location {
        location(self.sql.peek_token_ref().span.start).unwrap_or_else(|| self.script.end())
    }

    /// Where the last token ended.
    pub fn behind(&self) -> Location {
        location(self.sql.get_current_token().span.end).unwrap_or_else(|| self.script.end())
    }

    /// The text from a place to the end of the last token.
    pub fn text_from(&self, start: Location) -> String {
        self.script.slice(start, self.behind()).to_string()
    }

    /// The text from a place up to the next token.
    pub fn text_before(&self, start: Location) -> &'a str {
        self.script.slice(start, self.here())
    }

    /// The text from a place to the next blank, comma or closing bracket.
    pub fn word_at(&self, start: Location) -> &'a str {
        let rest = self.script.slice(start, self.script.end());
        rest.split(|c: char| c.is_whitespace() || c == ',' || c == ')').next().unwrap_or_default()
    }

    pub fn peek(&self) -> &Token {
        &self.sql.peek_token_ref().token
    }

    pub fn at_end(&self) -> bool {
        *self.peek() == Token::EOF
    }

    pub fn take_semicolon(&mut self) -> bool {
        self.sql.consume_token(&Token::SemiColon)
    }

    pub fn take(&mut self, token: &Token) -> bool {
        self.sql.consume_token(token)
    }

    pub fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(&format!("'{token}'"))) }
    }

    /// Is the token `ahead` places on this word, in any case and without quotes?
    pub fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(&self.sql.peek_nth_token_ref(ahead).token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    /// Takes the words if all of them come next.
    pub fn take_words(&mut self, words: &[&str]) -> bool {
        let here = words.iter().enumerate().all(|(i, word)| self.is_word_at(i, word));
        if here {
            words.iter().for_each(|_| self.sql.advance_token());
        }
        here
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    pub fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.take_word(word) {
                return Err(self.unexpected(word));
            }
        }
        Ok(())
    }

    /// An object's or column's name: one identifier, any word.
    pub fn name(&mut self, what: &str) -> Result<Name> {
        let at = self.here();
        let Token::Word(word) = self.peek().clone() else {
            return Err(self.unexpected(&format!("the name of a {what}")));
        };
        self.sql.advance_token();
        let value = if word.quote_style.is_some() { word.value } else { word.value.to_lowercase() };
        if value.is_empty() || value.chars().count() > MAX_NAME_CHARS || value.chars().any(char::is_control) {
            let message =
                format!("the name of a {what} has 1 to {MAX_NAME_CHARS} characters, none of them a control character");
            return Err(Error::new(Code::InvalidName, message).at(at));
        }
        Ok(Name { value, location: Some(at) })
    }

    /// The name of a catalogue object: as [`Self::name`], and not qualified.
    pub fn object_name(&mut self, what: &str) -> Result<Name> {
        let name = self.name(what)?;
        if *self.peek() == Token::Period {
            return Err(Error::new(
                Code::InvalidName,
                format!("the name of a {what} cannot be qualified: {}.…", name.value),
            )
            .with_hint("there are no schemas besides system, which is read-only")
            .at(name.location));
        }
        Ok(name)
    }

    /// Names in parentheses.
    pub fn names(&mut self, what: &str) -> Result<Vec<Name>> {
        self.expect(&Token::LParen)?;
        let mut names = vec![self.name(what)?];
        while self.take(&Token::Comma) {
            names.push(self.name(what)?);
        }
        self.expect(&Token::RParen)?;
        Ok(names)
    }

    /// A string literal.
    pub fn string(&mut self, what: &str) -> Result<String> {
        match self.peek().clone() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                self.sql.advance_token();
                Ok(text)
            }
            Token::DollarQuotedString(text) => {
                self.sql.advance_token();
                Ok(text.value)
            }
            _ => Err(self.unexpected(&format!("{what} in single quotes"))),
        }
    }

    pub fn query(&mut self) -> Result<SqlQuery> {
        let start = self.here();
        let ast = self.sql.parse_query().map_err(|e| self.parser_error(e))?;
        let emit = self.emit_every()?;
        Ok(SqlQuery { ast, text: self.text_from(start), start, emit })
    }

    /// `EMIT EVERY INTERVAL '…'`, if it comes next.
    fn emit_every(&mut self) -> Result<Option<EmitEvery>> {
        let location = self.here();
        if !self.take_words(&["EMIT", "EVERY"]) {
            return Ok(None);
        }
        Ok(Some(EmitEvery { interval: self.expr()?, location }))
    }

    pub fn expr(&mut self) -> Result<SqlExpr> {
        let start = self.here();
        let ast = self.sql.parse_expr().map_err(|e| self.parser_error(e))?;
        Ok(SqlExpr { ast: Box::new(ast), text: self.text_from(start), start })
    }

    pub fn data_type(&mut self) -> Result<crate::types::SqlType> {
        let start = self.here();
        let ast = self.sql.parse_data_type().map_err(|e| self.parser_error(e))?;
        crate::types::SqlType::from_ast(&ast).map_err(|e| e.at(start))
    }

    /// Is the next keyword one that can begin a query?
    pub fn at_query(&self) -> bool {
        match self.peek() {
            Token::LParen => true,
            Token::Word(word) => matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES),
            _ => false,
        }
    }

    /// The error for a token that does not belong here.
    pub fn unexpected(&self, expected: &str) -> Error {
        let found = match self.peek() {
            Token::EOF => "the end".to_string(),
            Token::SemiColon => "the end of the statement".to_string(),
            token => token.to_string(),
        };
        syntax_error(format!("expected {expected}, found {found}")).at(self.here())
    }

    /// sqlparser's error as ours. Its text ends with the place.
    pub fn parser_error(&self, error: ParserError) -> Error {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return Error::new(Code::StatementTooComplex, "the statement is nested too deeply").at(self.here());
            }
        };
        let (message, at) = split_place(&text);
        let message = match message.strip_prefix("Expected: ").and_then(|m| m.rsplit_once(", found: ")) {
            Some((expected, "EOF")) => format!("expected {expected}, found the end"),
            Some((expected, ";")) => format!("expected {expected}, found the end of the statement"),
            Some((expected, found)) => format!("expected {expected}, found {found}"),
            None => lower_first(message),
        };
        syntax_error(message).at(at.unwrap_or_else(|| self.here()))
    }
}

/// Makes plain names of words that other systems have behind a table for its versions, as in `FROM orders at`.
fn free_names(tokens: &mut [TokenWithSpan]) {
    // `AT TIME ZONE` is an operator.
    let zoned = |next: Option<&TokenWithSpan>| {
        next.is_some_and(|t| matches!(&t.token, Token::Word(word) if word.keyword == Keyword::TIME))
    };
    for i in 0..tokens.len() {
        let after = tokens.get(i + 1..).unwrap_or_default();
        let zone = zoned(after.iter().find(|t| !matches!(t.token, Token::Whitespace(_))));
        if let Some(TokenWithSpan { token: Token::Word(word), .. }) = tokens.get_mut(i) {
            match word.keyword {
                Keyword::BEFORE | Keyword::CHANGES => word.keyword = Keyword::NoKeyword,
                Keyword::AT if !zone => word.keyword = Keyword::NoKeyword,
                _ => {}
            }
        }
    }
}

pub(crate) fn syntax_error(message: impl Into<String>) -> Error {
    Error::new(Code::SyntaxError, message)
}

/// Cuts ` at Line: 3, Column: 7` off.
fn split_place(text: &str) -> (&str, Option<Location>) {
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let location = Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        Some((message, location))
    });
    match place {
        Some((message, at)) => (message, Some(at)),
        None => (text, None),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        // a word all in capitals is a keyword
        Some(first) if !chars.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.trim_end_matches('.').to_string(),
    }
}
