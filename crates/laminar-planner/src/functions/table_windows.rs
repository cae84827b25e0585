//! Windows as table functions, `FROM TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1 minute')`, in terms of what there is.
//!
//! ```text
//!  grouped by them:  SELECT window_end, count(*) FROM HOP(TABLE t, …) GROUP BY window_start, window_end
//!                ─►  SELECT get_field(hop(at, …), 'end') AS window_end, count(*) FROM t GROUP BY hop(at, …)
//!  otherwise:        SELECT * FROM HOP(TABLE t, …)
//!                ─►  SELECT * FROM (SELECT * EXCLUDE (w), get_field(w, 'start') AS window_start, …
//!                                   FROM (SELECT *, unnest(hop_windows(at, …)) AS w FROM t))
//! ```
//!
//! The form is SQL:2016's, with the argument names of Flink.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, Select,
    SelectItem, SetExpr, Spanned, TableAlias, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Tokenizer};
use laminar_core::{Code, Error, Result};

use super::windows::WindowKind;
use crate::dialect::LaminarDialect;
use crate::places::last_name;
use crate::script::location;

/// What the query is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// A pipeline, whose GROUP BY knows windows.
    Always,
    /// A batch.
    Once,
}

/// The columns that a window function adds to those of its table.
const COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// `TUMBLE(TABLE t, DESCRIPTOR(at), size)`.
#[derive(Clone, Debug)]
pub(crate) struct TableWindow {
    pub kind: WindowKind,
    table: ObjectName,
    partition_by: Vec<Expr>,
    time: Expr,
    pub sizes: Vec<Expr>,
    alias: Option<TableAlias>,
    at: Span,
}

/// Replaces the windows in every FROM of the query. Errors: `wrong_arguments`, `not_supported`.
pub(crate) fn expand(query: &mut Query, runs: Runs) -> Result<()> {
    match VisitMut::visit(query, &mut Expand { runs }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Expand {
    runs: Runs,
}

impl VisitorMut for Expand {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        match grouped(select, self.runs) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match TableWindow::of(factor).and_then(|window| window.map(|w| w.derived()).transpose()) {
            Ok(Some(derived)) => *factor = derived,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

impl TableWindow {
    /// The window that a relation of FROM is.
    pub fn of(factor: &TableFactor) -> Result<Option<Self>> {
        let (name, args, alias) = match factor {
            TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.as_slice(), alias),
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
                FunctionArguments::List(list) => (&function.name, list.args.as_slice(), alias),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(kind) = WindowKind::named(&last_name(name)) else { return Ok(None) };
        let wrong = |what: &str| wrong(kind, what, name.span());
        let names = kind.parameters();
        if args.len() > names.len() {
            return Err(wrong("has too many arguments"));
        }
        let mut given: Vec<Option<&Expr>> = vec![None; names.len()];
        for (i, arg) in args.iter().enumerate() {
            let (place, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (Some(i), Some(expr)),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    (names.iter().position(|n| name.value.eq_ignore_ascii_case(n)), Some(expr))
                }
                _ => (None, None),
            };
            match place.and_then(|place| given.get_mut(place)) {
                Some(slot @ None) => *slot = expr,
                _ => return Err(wrong(&format!("does not take {arg}"))),
            }
        }
        let mut given = given.into_iter();
        let (Some(Some(data)), Some(Some(time))) = (given.next(), given.next()) else {
            return Err(wrong("needs a table and a DESCRIPTOR"));
        };
        let (table, partition_by) = table_of(data).ok_or_else(|| wrong("needs TABLE name as its first argument"))?;
        if !partition_by.is_empty() && kind != WindowKind::Session {
            return Err(wrong("takes no PARTITION BY, as its windows are the same for all rows"));
        }
        let time = described(time).ok_or_else(|| wrong("needs DESCRIPTOR(column) as its second argument"))?;
        let sizes = given.map(|size| size.cloned()).collect::<Option<Vec<_>>>();
        let sizes = sizes.ok_or_else(|| wrong("needs its sizes"))?;
        Ok(Some(Self { kind, table, partition_by, time, sizes, alias: alias.clone(), at: name.span() }))
    }

    /// The relation with the columns of the window, one row for each window of a row.
    fn derived(self) -> Result<TableFactor> {
        let text = match self.kind {
            WindowKind::Tumble => {
                "SELECT *, get_field(call_, 'start') AS window_start, get_field(call_, 'end') AS window_end, \
                 get_field(call_, 'end') - INTERVAL '0.000001 seconds' AS window_time FROM table_"
            }
            WindowKind::Hop | WindowKind::Cumulate => {
                "SELECT * EXCLUDE (window_), get_field(window_, 'start') AS window_start, \
                 get_field(window_, 'end') AS window_end, \
                 get_field(window_, 'end') - INTERVAL '0.000001 seconds' AS window_time \
                 FROM (SELECT *, unnest(call_) AS window_ FROM table_)"
            }
            WindowKind::Session => {
                let message = "SESSION(TABLE …) without GROUP BY window_start, window_end is not supported";
                return Err(Error::new(Code::NotSupported, message)
                    .with_hint(
                        "a session is known when it ends: aggregate its rows, GROUP BY …, window_start, window_end",
                    )
                    .at(location(self.at.start)));
            }
        };
        let function = match self.kind {
            WindowKind::Hop => "hop_windows",
            WindowKind::Cumulate => "cumulate_windows",
            kind => kind.name(),
        };
        let mut subquery = template(text)?;
        let mut fill = Fill { call: self.call(function), table: &self.table };
        let _ = VisitMut::visit(&mut subquery, &mut fill);
        Ok(TableFactor::Derived { lateral: false, subquery, alias: self.alias, sample: None })
    }

    /// The function of the time and the sizes.
    fn call(&self, function: &str) -> Expr {
        let args = std::iter::once(&self.time).chain(&self.sizes).cloned();
        call(function, args.collect(), self.at)
    }

    /// Is it one of the window's columns?
    fn column(&self, expr: &Expr) -> Option<&'static str> {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, name] if *relation.value == self.relation()? => name,
                _ => return None,
            },
            _ => return None,
        };
        COLUMNS.into_iter().find(|column| name.value.eq_ignore_ascii_case(column))
    }

    fn relation(&self) -> Option<String> {
        let table = self.table.0.last().and_then(|part| part.as_ident());
        self.alias.as_ref().map(|alias| &alias.name).or(table).map(|name| name.value.clone())
    }
}

impl WindowKind {
    /// Of the table function.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["data", "timecol", "size"],
            Self::Hop => &["data", "timecol", "slide", "size"],
            Self::Cumulate => &["data", "timecol", "step", "size"],
            Self::Session => &["data", "timecol", "gap"],
        }
    }
}

/// A SELECT that groups by the window in its FROM, as one that groups by the window function.
fn grouped(select: &mut Select, runs: Runs) -> Result<()> {
    let [from] = select.from.as_mut_slice() else { return Ok(()) };
    let Some(window) = TableWindow::of(&from.relation)?.filter(|_| from.joins.is_empty()) else { return Ok(()) };
    if runs == Runs::Once && window.kind != WindowKind::Session {
        return Ok(());
    }
    let GroupByExpr::Expressions(keys, modifiers) = &select.group_by else { return Ok(()) };
    // The end says which window it is; the start does not, of one that grows.
    let by_end = keys.iter().any(|key| window.column(key) == Some("window_end"));
    let in_where = select.selection.as_ref().is_some_and(|condition| mentions(condition, &window));
    if !by_end || in_where || !modifiers.is_empty() {
        return Ok(());
    }
    let mut others: Vec<Expr> = keys.iter().filter(|key| window.column(key).is_none()).cloned().collect();
    if window.kind == WindowKind::Session {
        same_keys(&window, &others)?;
    }
    let call = window.call(window.kind.name());
    others.push(call.clone());
    select.group_by = GroupByExpr::Expressions(others, vec![]);
    for item in &mut select.projection {
        // the column keeps its name
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some(name) = window.column(expr)
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(name) };
        }
    }
    let mut replace = Replace { window: &window, call: &call };
    let _ = VisitMut::visit(&mut select.projection, &mut replace);
    let _ = VisitMut::visit(&mut select.having, &mut replace);
    if let Some(from) = select.from.first_mut() {
        from.relation = plain_table(&window);
    }
    Ok(())
}

/// The sessions of a table function are those of its PARTITION BY, and of ours those of each group.
fn same_keys(window: &TableWindow, keys: &[Expr]) -> Result<()> {
    let names = |exprs: &[Expr]| {
        let mut names: Vec<String> = exprs.iter().map(|e| last_part(&e.to_string())).collect();
        names.sort();
        names
    };
    if names(&window.partition_by) == names(keys) {
        return Ok(());
    }
    let columns = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let hint = match keys {
        [] => "leave PARTITION BY out, or GROUP BY its columns too".to_string(),
        [_] => format!("write SESSION(TABLE {} PARTITION BY {columns}, …)", window.table),
        _ => format!("write SESSION(TABLE {} PARTITION BY ({columns}), …)", window.table),
    };
    Err(Error::new(Code::NotSupported, "sessions of other rows than those of a group are not supported")
        .with_detail("PARTITION BY of SESSION and GROUP BY name different columns")
        .with_hint(hint)
        .at(location(window.at.start)))
}

fn last_part(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_lowercase()
}

/// Does the expression name a column of the window?
fn mentions(expr: &Expr, window: &TableWindow) -> bool {
    struct Mentions<'a>(&'a TableWindow);
    impl Visitor for Mentions<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match self.0.column(expr) {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Mentions(window)).is_break()
}

/// Puts the function in the place of the window's columns.
struct Replace<'a> {
    window: &'a TableWindow,
    call: &'a Expr,
}

impl VisitorMut for Replace<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let field = |name: &str| {
            let text = Expr::value(ast::Value::SingleQuotedString(name.to_string()));
            call("get_field", vec![self.call.clone(), text], self.window.at)
        };
        match self.window.column(expr) {
            Some("window_start") => *expr = field("start"),
            Some("window_end") => *expr = field("end"),
            Some(_) => {
                if let Ok(mut query) = template("SELECT call_ - INTERVAL '0.000001 seconds'")
                    && let SetExpr::Select(select) = query.body.as_mut()
                    && let Some(SelectItem::UnnamedExpr(less)) = select.projection.first_mut()
                {
                    let _ = VisitMut::visit(less, &mut Fill { call: field("end"), table: &self.window.table });
                    *expr = less.clone();
                }
            }
            None => {}
        }
        ControlFlow::Continue(())
    }
}

/// Fills the gaps of a template.
struct Fill<'a> {
    call: Expr,
    table: &'a ObjectName,
}

impl VisitorMut for Fill<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if relation.to_string() == "table_" {
            relation.clone_from(self.table);
        }
        ControlFlow::Continue(())
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(name) if name.value == "call_") {
            expr.clone_from(&self.call);
        }
        ControlFlow::Continue(())
    }
}

/// A query of our own; its words have no places.
fn template(text: &str) -> Result<Box<Query>> {
    let dialect = LaminarDialect::new(text);
    let broken = |error: &dyn std::fmt::Display| Error::internal(format!("the template of a window: {error}"));
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| broken(&e))?;
    Parser::new(&dialect).with_tokens(tokens).parse_query().map_err(|e| broken(&e))
}

fn plain_table(window: &TableWindow) -> TableFactor {
    TableFactor::Table {
        name: window.table.clone(),
        alias: window.alias.clone(),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

fn call(name: &str, args: Vec<Expr>, at: Span) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(ast::Function {
        name: ObjectName::from(vec![Ident::with_span(at, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// The arguments of a plain call of this function.
fn args_of<'a>(expr: &'a Expr, function: &str) -> Option<Vec<&'a Expr>> {
    let Expr::Function(found) = expr else { return None };
    let FunctionArguments::List(list) = &found.args else { return None };
    if last_name(&found.name) != function {
        return None;
    }
    let arg = |arg: &'a FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().map(arg).collect()
}

/// `TABLE t [PARTITION BY …]`, as the dialect gives it.
fn table_of(expr: &Expr) -> Option<(ObjectName, Vec<Expr>)> {
    let args = args_of(expr, "table")?;
    let (table, partition_by) = args.split_first()?;
    let name = match table {
        Expr::Identifier(name) => vec![name.clone()],
        Expr::CompoundIdentifier(parts) => parts.clone(),
        _ => return None,
    };
    Some((ObjectName::from(name), partition_by.iter().map(|key| (*key).clone()).collect()))
}

/// The column in `DESCRIPTOR(column)`.
fn described(expr: &Expr) -> Option<Expr> {
    match args_of(expr, "descriptor")?.as_slice() {
        [column @ Expr::Identifier(_)] => Some((*column).clone()),
        _ => None,
    }
}

fn wrong(kind: WindowKind, what: &str, at: Span) -> Error {
    let name = kind.name().to_uppercase();
    let usage = match kind {
        WindowKind::Tumble => "TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1 hour')",
        WindowKind::Hop => "HOP(TABLE t, DESCRIPTOR(at), slide, size)",
        WindowKind::Cumulate => "CUMULATE(TABLE t, DESCRIPTOR(at), step, size)",
        WindowKind::Session => "SESSION(TABLE t PARTITION BY k, DESCRIPTOR(at), gap)",
    };
    Error::new(Code::WrongArguments, format!("{name} in FROM {what}"))
        .with_hint(format!("write {usage}"))
        .at(location(at.start))
}
