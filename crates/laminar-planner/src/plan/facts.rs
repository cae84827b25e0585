//! What a plan knows of a step's rows beyond their types: do they change what came before, and which columns are times.
//!
//! Facts are found bottom-up while the plan is lowered. Every refusal of a query that a stream cannot answer comes from them.

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use laminar_core::Result;

use crate::functions::clock::is_processing_time;
use crate::functions::windows::WindowCall;

#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Rows may be updated and deleted later.
    pub updating: bool,
    /// The rows' event time is their arrival: `proctime()` is that.
    pub by_arrival: bool,
    /// One per column.
    pub columns: Vec<TimeFact>,
}

/// What a column says of the row's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeFact {
    Nothing,
    /// It is the event time.
    Event,
    /// The window that the event time is in.
    Window {
        size: Option<i64>,
    },
    WindowStart {
        size: Option<i64>,
    },
    WindowEnd,
}

impl Facts {
    /// Inserts, about whose columns nothing is known.
    pub fn inserts(columns: usize) -> Self {
        Self { updating: false, by_arrival: false, columns: vec![TimeFact::Nothing; columns] }
    }

    /// Of the columns that a projection computes.
    pub fn project(&self, exprs: &[Expr], input: &DFSchema) -> Result<Self> {
        let columns = exprs.iter().map(|e| self.of(e, input)).collect::<Result<_>>()?;
        Ok(Self { columns, ..*self })
    }

    /// Of the rows of all inputs, whose columns have the same places.
    pub fn union(mut self, other: &Self) -> Self {
        self.updating |= other.updating;
        self.by_arrival &= other.by_arrival;
        for (own, other) in self.columns.iter_mut().zip(&other.columns) {
            if own != other {
                *own = TimeFact::Nothing;
            }
        }
        self
    }

    /// Of an expression over the columns.
    pub fn of(&self, expr: &Expr, input: &DFSchema) -> Result<TimeFact> {
        if let Some(call) = WindowCall::of(expr)? {
            let in_time = match &call.time {
                None => true,
                Some(time) => self.of(time, input)? == TimeFact::Event,
            };
            return Ok(if in_time { TimeFact::Window { size: call.size() } } else { TimeFact::Nothing });
        }
        Ok(match expr {
            Expr::Alias(alias) => self.of(&alias.expr, input)?,
            _ if self.by_arrival && is_processing_time(expr) => TimeFact::Event,
            Expr::Column(column) => {
                let index = input.maybe_index_of_column(column);
                index.and_then(|i| self.columns.get(i)).copied().unwrap_or(TimeFact::Nothing)
            }
            Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
                [window, field] => match (self.of(window, input)?, text(field)) {
                    (TimeFact::Window { size }, Some("start")) => TimeFact::WindowStart { size },
                    (TimeFact::Window { .. }, Some("end")) => TimeFact::WindowEnd,
                    _ => TimeFact::Nothing,
                },
                _ => TimeFact::Nothing,
            },
            _ => TimeFact::Nothing,
        })
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}
