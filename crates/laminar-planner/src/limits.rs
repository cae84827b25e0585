//! How long, deep and complex a statement may be, decided on its tokens before anything recursive sees it.
//!
//! Parsing, planning and even dropping a syntax tree recurse to its depth. `1+1+…+1` is a tree as deep as it has terms, so
//! the bound is on what makes trees deep: brackets inside one another, and operators of one expression. Depth is counted
//! as the operators on the way down:
//!
//! ```text
//! a + b * (c + f(d - e, g))      4: an expression's own operators and those of its deepest brackets
//! ```

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use laminar_core::{Code, Error, Location, Result};

use crate::script::Script;

/// Bytes of one script.
pub const MAX_SCRIPT_BYTES: usize = 1 << 20;
/// Brackets, CASEs and type arguments inside one another.
pub const MAX_NESTING: usize = 40;
/// Operators of one expression, with those of its brackets.
pub const MAX_OPERATORS: usize = 200;
/// Brackets that open right behind another, inside one another: sqlparser tries each of `((` as a query and as a join.
pub const MAX_DOUBLE_NESTING: usize = 12;
/// UNIONs and joins of one query.
pub const MAX_RELATIONS: usize = 100;
/// Tokens between two commas, brackets or clauses.
const MAX_RUN: usize = 4_000;

/// Refuses scripts that are longer than the limit.
pub fn check_length(script: &str) -> Result<()> {
    match script.len() {
        ..=MAX_SCRIPT_BYTES => Ok(()),
        bytes => Err(too_complex(format!("the script has {bytes} bytes, the limit is {MAX_SCRIPT_BYTES}"))
            .with_hint("send it in several parts")
            .at(Script::new(&script[..script.floor_char_boundary(MAX_SCRIPT_BYTES)]).end())),
    }
}

/// Refuses statements that are deeper or have more operators than the limits, at the token that goes beyond.
pub fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut frames = Frames(vec![Frame::default()]);
    for token in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
        frames.take(&token.token);
        let at = Location { line: token.span.start.line, column: token.span.start.column };
        frames.check().map_err(|error| error.at(at))?;
    }
    Ok(())
}

/// What is open at a token: the statement itself, and pairs of brackets in it.
struct Frames(Vec<Frame>);

#[derive(Clone, Copy, Default)]
struct Frame {
    opened_by: Opener,
    /// Operators of the current item.
    operators: usize,
    /// Most operators of an item so far.
    deepest: usize,
    relations: usize,
    /// Tokens of the current item.
    run: usize,
    /// Right behind the bracket around it.
    is_double: bool,
    last: Last,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Opener {
    #[default]
    Statement,
    Bracket,
    /// The `<` of a type.
    Angle,
    Case,
}

/// The token before, as far as it matters.
#[derive(Clone, Copy, Default, PartialEq)]
enum Last {
    #[default]
    Other,
    /// The bracket around it.
    Opened,
    /// What follows is an operand, even if it looks like a clause: `1 + select`.
    Operator,
    Period,
    /// ARRAY, STRUCT, MAP: a `<` that follows opens.
    TypeConstructor,
}

impl Frames {
    fn take(&mut self, token: &Token) {
        let Some(&Frame { last, opened_by, .. }) = self.0.last() else { return };
        self.top(|f| {
            f.run += 1;
            f.last = Last::Other;
        });
        match token {
            Token::LParen | Token::LBrace => self.open(Opener::Bracket, last),
            // `a[1][2]` is a chain: each subscript is around what comes before it
            Token::LBracket => {
                self.top(Frame::operator);
                self.top(|f| f.last = Last::Other);
                self.open(Opener::Bracket, last);
            }
            Token::RParen | Token::RBrace | Token::RBracket => self.close_bracket(),
            Token::Lt if last == Last::TypeConstructor => self.open(Opener::Angle, last),
            Token::Gt if opened_by == Opener::Angle => self.close(),
            Token::ShiftRight if opened_by == Opener::Angle => {
                self.close();
                if self.0.last().is_some_and(|f| f.opened_by == Opener::Angle) {
                    self.close();
                }
            }
            Token::Comma => self.top(Frame::next_item),
            Token::SemiColon => self.0 = vec![Frame::default()],
            Token::Period => self.top(|f| f.last = Last::Period),
            Token::Word(word) if word.quote_style.is_none() && last != Last::Period => {
                self.take_word(word.keyword, last)
            }
            Token::Word(_) | Token::Number(..) | Token::EOF => {}
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::EscapedStringLiteral(_) => {}
            _ => self.top(Frame::operator),
        }
    }

    fn take_word(&mut self, keyword: Keyword, last: Last) {
        use Keyword::*;
        let in_case = self.0.last().is_some_and(|f| f.opened_by == Opener::Case);
        match keyword {
            CASE => self.open(Opener::Case, last),
            END if in_case => self.close(),
            WHEN | THEN | ELSE if in_case && last != Last::Operator => self.top(Frame::next_item),
            SELECT | FROM | WHERE | GROUP | HAVING | ORDER if last != Last::Operator => self.top(Frame::next_item),
            UNION | EXCEPT | INTERSECT | JOIN => self.top(|f| f.relations += 1),
            ARRAY | STRUCT | MAP => self.top(|f| f.last = Last::TypeConstructor),
            AND | OR | NOT | LIKE | ILIKE | IS | IN | BETWEEN | SIMILAR | RLIKE | COLLATE | AT | XOR | DIV
            | INTERVAL | OPERATOR | DISTINCT | NOTNULL | EXPLAIN => self.top(Frame::operator),
            _ => {}
        }
    }

    fn top(&mut self, change: impl FnOnce(&mut Frame)) {
        if let Some(frame) = self.0.last_mut() {
            change(frame);
        }
    }

    fn open(&mut self, opened_by: Opener, last: Last) {
        self.0.push(Frame { opened_by, is_double: last == Last::Opened, last: Last::Opened, ..Frame::default() });
    }

    /// A bracket also ends what was left open inside it.
    fn close_bracket(&mut self) {
        while self.0.last().is_some_and(|f| matches!(f.opened_by, Opener::Angle | Opener::Case)) {
            self.close();
        }
        self.close();
    }

    fn close(&mut self) {
        if self.0.len() > 1
            && let (Some(inner), Some(outer)) = (self.0.pop(), self.0.last_mut())
        {
            outer.operators += inner.deepest.max(inner.operators);
        }
    }

    fn check(&self) -> Result<()> {
        let top = self.0.last().copied().unwrap_or_default();
        if self.0.len() > MAX_NESTING + 1 {
            return Err(too_complex(format!("brackets are nested deeper than {MAX_NESTING} levels"))
                .with_hint("compute the inner part in a view"));
        }
        if self.0.iter().filter(|f| f.is_double).count() > MAX_DOUBLE_NESTING {
            return Err(too_complex(format!(
                "more than {MAX_DOUBLE_NESTING} brackets stand directly inside one another"
            ))
            .with_hint("leave out brackets that change nothing"));
        }
        if self.0.iter().map(|f| f.operators).sum::<usize>() > MAX_OPERATORS {
            return Err(too_complex(format!("an expression has more than {MAX_OPERATORS} operators"))
                .with_hint("use IN (…) for a long chain of OR, or split the expression with a view"));
        }
        if top.relations > MAX_RELATIONS {
            return Err(too_complex(format!("a query has more than {MAX_RELATIONS} unions and joins")));
        }
        if top.run > MAX_RUN {
            return Err(too_complex(format!("an expression has more than {MAX_RUN} words")));
        }
        Ok(())
    }
}

impl Frame {
    fn operator(&mut self) {
        self.operators += 1;
        self.last = Last::Operator;
    }
    fn next_item(&mut self) {
        self.deepest = self.deepest.max(self.operators);
        self.operators = 0;
        self.run = 0;
    }
}

fn too_complex(message: String) -> Error {
    Error::new(Code::StatementTooComplex, message)
}
