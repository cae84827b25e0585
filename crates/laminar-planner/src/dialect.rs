//! The dialect: PostgreSQL's precedence and lexical rules, plus `==`, `STRUCT<…>`, `MAP<…>`.
//!
//! The tokenizer and the parser ask a dialect questions; where they know PostgreSQL by name, this one passes for it.
//! Words such as CAST or FLOOR are a column's name unless `(` follows.
//!
//! sqlparser tries alternatives one after the other, which can double the work at each level of nesting. So a dialect
//! has a budget: it counts the expressions that the parser begins, and stops it when there are far more than tokens.

use std::any::TypeId;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Word};

/// Expressions that any statement may begin, and more for each of its bytes.
const BASE_BUDGET: usize = 10_000;
const BUDGET_PER_BYTE: usize = 4;

/// The dialect, for one parse of one text.
#[derive(Debug)]
pub struct LaminarDialect {
    /// Expressions that may still begin.
    budget: AtomicUsize,
}

impl LaminarDialect {
    pub fn new(text: &str) -> Self {
        Self { budget: AtomicUsize::new(BASE_BUDGET + BUDGET_PER_BYTE * text.len()) }
    }

    /// Did the parser stop because it tried too often?
    fn is_exhausted(&self) -> bool {
        let spend = |left: usize| left.checked_sub(1);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err()
    }
}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Names unless `(` follows.
const CALLS: &[Keyword] = &[
    Keyword::ARRAY,
    Keyword::CAST,
    Keyword::CEIL,
    Keyword::CONVERT,
    Keyword::EXISTS,
    Keyword::EXTRACT,
    Keyword::FLOOR,
    Keyword::OVERLAY,
    Keyword::POSITION,
    Keyword::SAFE_CAST,
    Keyword::SUBSTR,
    Keyword::SUBSTRING,
    Keyword::TRIM,
    Keyword::TRY_CAST,
];

impl Dialect for LaminarDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }
    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('"')
    }
    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let (next, after) = (parser.peek_token_ref(), parser.peek_nth_token_ref(1));
        // `c INT DEFAULT 0 NOT NULL`: a constraint, never `IS NOT NULL`
        if is_keyword(&next.token, Keyword::NOT) && is_keyword(&after.token, Keyword::NULL) {
            return Some(Ok(self.prec_unknown()));
        }
        POSTGRES.get_next_precedence(parser)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if self.is_exhausted() {
            // the one error that the parser does not answer with another try
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        let keyword = match &parser.peek_token_ref().token {
            Token::Word(Word { keyword, quote_style: None, .. }) => *keyword,
            _ => return None,
        };
        let next = &parser.peek_nth_token_ref(1).token;
        let called = matches!(next, Token::LParen) || (keyword == Keyword::ARRAY && matches!(next, Token::LBracket));
        match keyword {
            Keyword::INTERVAL => {
                parser.advance_token();
                Some(parser.parse_interval())
            }
            Keyword::TABLE if matches!(next, Token::Word(_)) => Some(parse_table_argument(parser)),
            _ if CALLS.contains(&keyword) && !called => Some(parser.parse_identifier().map(Expr::Identifier)),
            _ => None,
        }
    }
    /// `a IS DISTINCT FROM b OR c` is `(a IS DISTINCT FROM b) OR c`: the parser's own rule takes all that follows.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};
        let is_not = parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]);
        if !is_not && !parser.parse_keywords(&[IS, DISTINCT, FROM]) {
            return None;
        }
        let (left, right) = (Box::new(expr.clone()), parser.parse_subexpr(self.prec_value(Precedence::Is)));
        Some(right.map(Box::new).map(|right| match is_not {
            true => Expr::IsNotDistinctFrom(left, right),
            false => Expr::IsDistinctFrom(left, right),
        }))
    }
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        matches!(keyword, Keyword::CASE | Keyword::NOT | Keyword::INTERVAL | Keyword::STRUCT)
            || CALLS.contains(&keyword)
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        // `FROM (…) EMIT EVERY …`
        let emit =
            is_word(&parser.get_current_token().token, "EMIT") && is_word(&parser.peek_token_ref().token, "EVERY");
        explicit || (!emit && self.is_table_alias(keyword, parser))
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
    fn supports_string_escape_constant(&self) -> bool {
        true
    }
    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }
    fn supports_nested_comments(&self) -> bool {
        true
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_within_after_array_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn allow_extract_custom(&self) -> bool {
        true
    }
    fn allow_extract_single_quotes(&self) -> bool {
        true
    }
    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }
    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }
    fn supports_struct_literal(&self) -> bool {
        true
    }
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
    fn supports_interval_options(&self) -> bool {
        true
    }
    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
    fn supports_select_wildcard_except(&self) -> bool {
        true
    }
    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }
    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    fn supports_values_as_table_factor(&self) -> bool {
        true
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// `TABLE t [PARTITION BY k | PARTITION BY (a, b)]` as an argument, read as a call `table(t, k)`.
fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let span = parser.peek_token_ref().span;
    parser.advance_token();
    let mut parts = vec![parser.parse_identifier()?];
    while parser.consume_token(&Token::Period) {
        parts.push(parser.parse_identifier()?);
    }
    let mut args = vec![Expr::CompoundIdentifier(parts)];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        if parser.consume_token(&Token::LParen) {
            args.extend(parser.parse_comma_separated(Parser::parse_expr)?);
            parser.expect_token(&Token::RParen)?;
        } else {
            args.push(parser.parse_expr()?);
        }
    }
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, "table")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }))
}

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}
