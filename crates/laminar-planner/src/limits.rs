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
/// UNIONs and joins of one query; relations between the commas of a FROM count too.
pub const MAX_RELATIONS: usize = 100;
/// SELECTs of one statement: subqueries and named queries.
pub const MAX_SELECTS: usize = 500;
/// Columns of a SELECT, GROUP BY or ORDER BY; planning takes the square of them. PostgreSQL's limit is 1664.
pub const MAX_COLUMNS: usize = 1_600;
/// WHENs of one CASE.
pub const MAX_WHENS: usize = 1_000;
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
    let mut frames = Frames { open: vec![Frame::default()], selects: 0 };
    for token in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
        frames.take(&token.token);
        let at = Location { line: token.span.start.line, column: token.span.start.column };
        frames.check().map_err(|error| error.at(at))?;
    }
    Ok(())
}

/// What is open at a token: the statement itself, and pairs of brackets in it.
struct Frames {
    open: Vec<Frame>,
    /// Of the statement.
    selects: usize,
}

#[derive(Clone, Copy, Default)]
struct Frame {
    opened_by: Opener,
    /// Operators of the current item.
    operators: usize,
    /// Most operators of an item so far.
    deepest: usize,
    relations: usize,
    whens: usize,
    clause: Clause,
    /// Of the clause.
    commas: usize,
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

/// What commas are between.
#[derive(Clone, Copy, Default, PartialEq)]
enum Clause {
    #[default]
    Other,
    /// Columns: of SELECT, GROUP BY, ORDER BY.
    List,
    From,
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
        let Some(&Frame { last, opened_by, .. }) = self.open.last() else { return };
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
                if self.open.last().is_some_and(|f| f.opened_by == Opener::Angle) {
                    self.close();
                }
            }
            Token::Comma => self.top(|f| {
                f.commas += 1;
                f.relations += usize::from(f.clause == Clause::From);
                f.next_item();
            }),
            Token::SemiColon => *self = Self { open: vec![Frame::default()], selects: 0 },
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
        let in_case = self.open.last().is_some_and(|f| f.opened_by == Opener::Case);
        match keyword {
            CASE => self.open(Opener::Case, last),
            END if in_case => self.close(),
            WHEN | THEN | ELSE if in_case && last != Last::Operator => self.top(|f| {
                f.whens += usize::from(keyword == WHEN);
                f.next_item();
            }),
            SELECT | FROM | WHERE | GROUP | HAVING | ORDER if last != Last::Operator => {
                self.selects += usize::from(keyword == SELECT);
                self.top(|f| {
                    f.clause = match keyword {
                        SELECT | GROUP | ORDER => Clause::List,
                        FROM => Clause::From,
                        _ => Clause::Other,
                    };
                    f.commas = 0;
                    f.next_item();
                });
            }
            UNION | EXCEPT | INTERSECT | JOIN => self.top(|f| f.relations += 1),
            ARRAY | STRUCT | MAP => self.top(|f| f.last = Last::TypeConstructor),
            AND | OR | NOT | LIKE | ILIKE | IS | IN | BETWEEN | SIMILAR | RLIKE | COLLATE | AT | XOR | DIV
            | INTERVAL | OPERATOR | DISTINCT | NOTNULL | EXPLAIN => self.top(Frame::operator),
            _ => {}
        }
    }

    fn top(&mut self, change: impl FnOnce(&mut Frame)) {
        if let Some(frame) = self.open.last_mut() {
            change(frame);
        }
    }

    fn open(&mut self, opened_by: Opener, last: Last) {
        self.open.push(Frame { opened_by, is_double: last == Last::Opened, last: Last::Opened, ..Frame::default() });
    }

    /// A bracket also ends what was left open inside it.
    fn close_bracket(&mut self) {
        while self.open.last().is_some_and(|f| matches!(f.opened_by, Opener::Angle | Opener::Case)) {
            self.close();
        }
        self.close();
    }

    fn close(&mut self) {
        if self.open.len() > 1
            && let (Some(inner), Some(outer)) = (self.open.pop(), self.open.last_mut())
        {
            outer.operators += inner.deepest.max(inner.operators);
        }
    }

    fn check(&self) -> Result<()> {
        let top = self.open.last().copied().unwrap_or_default();
        if self.open.len() > MAX_NESTING + 1 {
            return Err(too_complex(format!("brackets are nested deeper than {MAX_NESTING} levels"))
                .with_hint("compute the inner part in a view"));
        }
        if self.open.iter().filter(|f| f.is_double).count() > MAX_DOUBLE_NESTING {
            return Err(too_complex(format!(
                "more than {MAX_DOUBLE_NESTING} brackets stand directly inside one another"
            ))
            .with_hint("leave out brackets that change nothing"));
        }
        if self.open.iter().map(|f| f.operators).sum::<usize>() > MAX_OPERATORS {
            return Err(too_complex(format!("an expression has more than {MAX_OPERATORS} operators"))
                .with_hint("use IN (…) for a long chain of OR, or split the expression with a view"));
        }
        if top.relations > MAX_RELATIONS {
            return Err(too_complex(format!("a query has more than {MAX_RELATIONS} unions and joins"))
                .with_hint("write several pipelines, or put a part of them into a view"));
        }
        if self.selects > MAX_SELECTS {
            return Err(too_complex(format!("a statement has more than {MAX_SELECTS} SELECTs"))
                .with_hint("write several statements, or put a part of it into a view"));
        }
        if top.clause == Clause::List && top.commas >= MAX_COLUMNS {
            return Err(too_complex(format!("a list has more than {MAX_COLUMNS} columns"))
                .with_hint("leave some out, or put them into a struct or list: named_struct('a', a), [a, b]"));
        }
        if top.whens > MAX_WHENS {
            return Err(too_complex(format!("a CASE has more than {MAX_WHENS} WHENs"))
                .with_hint("join a table of the values instead"));
        }
        if top.run > MAX_RUN {
            return Err(too_complex(format!("an expression has more than {MAX_RUN} words"))
                .with_hint("split the expression with a view"));
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
