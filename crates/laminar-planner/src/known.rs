//! Messages of DataFusion that are well known, in our words and with what to write instead.
//!
//! They are told by a part of their text, as DataFusion has no codes; one that changes there falls back to its own text.

use laminar_core::{Code, Error};

use crate::translate::{between, clean, sql_type_names};

/// Part of a message of DataFusion; ours, and what to write instead.
const KNOWN: &[(&str, Code, &str, &str)] = &[
    (
        "annot run range queries on datatype",
        Code::NotSupported,
        "rows of a frame by RANGE are ordered by something that has no distance",
        "order by a number or a time, such as a window's start, or count rows: ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    ),
    (
        "Aggregate functions are not allowed in the WHERE clause",
        Code::InvalidRequest,
        "an aggregate cannot stand in WHERE, which is about single rows",
        "conditions on groups go behind GROUP BY: HAVING count(*) > 1",
    ),
    (
        "Aggregate function calls cannot be nested",
        Code::InvalidRequest,
        "an aggregate cannot be the argument of another",
        "compute the inner one in a subquery: SELECT max(n) FROM (SELECT count(*) AS n FROM … GROUP BY …)",
    ),
    (
        "Correlated scalar subquery must be aggregated",
        Code::InvalidRequest,
        "a subquery used as a value may have several rows",
        "take one of them: SELECT max(x) …, or for the rows themselves write a JOIN",
    ),
    (
        "subquery should only return one column",
        Code::ColumnCount,
        "a subquery used as a value has one column, this one has several",
        "leave one column in its SELECT list, or write a JOIN",
    ),
    (
        "UNION queries have different number of columns",
        Code::ColumnCount,
        "the sides of UNION have different numbers of columns",
        "give both the same columns; NULL AS name stands for one that is missing",
    ),
    (
        "GROUPS requires an ORDER BY clause",
        Code::InvalidRequest,
        "a frame in GROUPS needs an ORDER BY",
        "write OVER (… ORDER BY column GROUPS …)",
    ),
    (
        "QUALIFY clause requires window functions",
        Code::InvalidRequest,
        "QUALIFY is about functions with OVER, and there is none",
        "write WHERE",
    ),
    (
        "should be rewritten to LogicalPlan::Unnest",
        Code::NotSupported,
        "unnest stands in the SELECT list only",
        "name it in a subquery: SELECT … FROM (SELECT unnest(list) AS element FROM …) WHERE element …",
    ),
    (
        "unnest() can only be applied to array, struct and null",
        Code::WrongArguments,
        "unnest() takes a list or a struct",
        "leave unnest out, or make a list: [x]",
    ),
    (
        "in SELECT clause. Valid columns:",
        Code::InvalidRequest,
        "the SELECT list has no column at this place",
        "places count from 1; or name the column",
    ),
    (
        "Incompatible inputs for Union",
        Code::TypeMismatch,
        "the sides of UNION have columns of different types at one place",
        "cast one of them: CAST(… AS type), or …::type",
    ),
    (
        "Join condition must be boolean type",
        Code::TypeMismatch,
        "the condition of a join is not BOOLEAN",
        "compare columns: ON a.id = b.id",
    ),
    ("CLUSTER BY", Code::NotSupported, "CLUSTER BY is not supported", "leave it out; GROUP BY groups rows"),
    (
        "DISTRIBUTE BY",
        Code::NotSupported,
        "DISTRIBUTE BY is not supported",
        "leave it out; rows are spread by their keys",
    ),
    ("SORT BY", Code::NotSupported, "SORT BY is not supported", "write ORDER BY … LIMIT n"),
];

/// Functions that are none without OVER.
const ONLY_OVER: &[&str] =
    &["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "nth_value"];

/// Functions of other systems, and what to write here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("if", "write CASE WHEN condition THEN a ELSE b END"),
    ("iff", "write CASE WHEN condition THEN a ELSE b END"),
    ("json_value", "write json_get_str(column, 'a', 'b'), or column ->> 'a'"),
    ("json_query", "write json_get_json(column, 'a', 'b'), or column -> 'a'"),
    ("extractjsonfield", "write json_get_str(column, 'a', 'b'), or column ->> 'a'"),
    ("lcase", "write lower(text)"),
    ("ucase", "write upper(text)"),
    ("len", "write length(text)"),
    ("ifnull", "write coalesce(a, b)"),
    ("isnull", "write a IS NULL"),
    ("timestamptostring", "write to_char(time, '%Y-%m-%d %H:%M:%S')"),
    ("stringtotimestamp", "write to_timestamp(text, '%Y-%m-%d %H:%M:%S')"),
    ("to_timestamp_ltz", "write to_timestamp_millis(number) or to_timestamp(number), which takes seconds"),
    ("proctime", "write now()"),
];

/// The error for a name that is no function here.
pub(crate) fn no_function(name: &str) -> Error {
    if ONLY_OVER.contains(&name) {
        return Error::new(Code::UnknownFunction, format!("{name}() needs OVER"))
            .with_hint(format!("write {name}(…) OVER (PARTITION BY … ORDER BY …)"));
    }
    let error = Error::new(Code::UnknownFunction, format!("there is no function {name}"));
    match ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        Some((_, hint)) => error.with_hint(*hint),
        None => error,
    }
}

/// The error of this message, if it is one of those above.
pub(crate) fn known(message: &str) -> Option<Error> {
    let (_, code, text, hint) = KNOWN.iter().find(|(part, ..)| message.contains(part))?;
    Some(Error::new(*code, *text).with_hint(*hint))
}

/// A function that does not take its arguments, by their number or types.
pub(crate) fn wrong_call(message: &str) -> Option<Error> {
    let function = between(message, "Function '", "' ").or_else(|| between(message, "'", "' does not support"))?;
    let wrong = |text: String| Error::new(Code::WrongArguments, text);
    if let Some((_, cause)) = message.split_once("user-defined coercion failed with: ") {
        let cause = cause.rsplit("Error during planning: ").next().unwrap_or(cause);
        let first =
            cause.lines().next().and_then(|line| line.split(". No function matches").next()).unwrap_or_default();
        // our own functions say how they are called
        return Some(match first.split_once(": ") {
            Some((text, usage)) if text.starts_with(&function) => wrong(text.to_string()).with_hint(usage),
            _ => wrong(format!("{function}() does not take these arguments"))
                .with_detail(clean(first))
                .with_hint(format!("cast them, or see SHOW FUNCTIONS for what {function} takes")),
        });
    }
    if message.contains("does not support zero arguments") {
        return Some(wrong(format!("{function}() needs arguments")).with_hint(format!("write {function}(column)")));
    }
    if let Some(received) = between(message, ", but received ", ")") {
        let found = received.split_once("(DataType: ").map_or(received.as_str(), |(_, found)| found);
        let found = sql_type_names(found);
        return Some(
            wrong(format!("{function}() does not take {found}"))
                .with_hint(format!("cast the argument, as in {function}(CAST(… AS DOUBLE))")),
        );
    }
    let (_, rest) = message.split_once("' expects ")?;
    let (wanted, found) = rest.split_once(" but received ")?;
    let found = found.split(['.', ' ', '\n']).next().unwrap_or_default();
    Some(match wanted.strip_suffix(" arguments") {
        Some(count) => {
            let arguments = if count == "1" { "argument" } else { "arguments" };
            wrong(format!("{function}() takes {count} {arguments}, not {found}"))
                .with_hint(format!("SHOW FUNCTIONS lists what {function} takes"))
        }
        None => {
            let (found, wanted) = (logical_type(found), logical_type(wanted));
            let target = if wanted == "a number" { "DOUBLE" } else { "TEXT" };
            wrong(format!("{function}() takes {wanted}, not {found}"))
                .with_hint(format!("cast the argument, as in {function}(CAST(… AS {target}))"))
        }
    })
}

/// DataFusion's names of kinds of types.
fn logical_type(name: &str) -> String {
    match name {
        "Numeric" => "a number".to_string(),
        "String" => "TEXT".to_string(),
        other => sql_type_names(other),
    }
}
