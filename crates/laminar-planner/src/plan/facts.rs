//! What a plan knows of a step's rows beyond their types: do they change what came before, and which columns are times.
//!
//! Facts are found bottom-up while the plan is lowered. Every refusal of a query that a stream cannot answer comes from them.

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, Unnest};
use laminar_core::Result;

use crate::functions::clock::is_processing_time;
use crate::functions::window_lists;
use crate::functions::windows::WindowCall;

#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Rows may be updated and deleted later.
    pub updating: bool,
    /// They come of a table that changes, so an old row is as good as a new one: it is there until it is taken away.
    pub lasting: bool,
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
    /// A list of windows that the event time is in.
    Windows {
        size: Option<i64>,
    },
    WindowStart {
        size: Option<i64>,
    },
    WindowEnd {
        size: Option<i64>,
    },
}

impl Facts {
    /// Inserts, about whose columns nothing is known.
    pub fn inserts(columns: usize) -> Self {
        Self { updating: false, lasting: false, by_arrival: false, columns: vec![TimeFact::Nothing; columns] }
    }

    /// Of the columns that a projection computes.
    pub fn project(&self, exprs: &[Expr], input: &DFSchema) -> Result<Self> {
        let columns = exprs.iter().map(|e| self.of(e, input)).collect::<Result<_>>()?;
        Ok(Self { columns, ..*self })
    }

    /// Of the rows of lists and structs: a column that is not one of them keeps what it is, and so does each window of a list.
    pub fn unnest(&self, unnest: &Unnest) -> Self {
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(index, _)| *index).collect();
        let column = |from: &usize| match self.columns.get(*from).copied() {
            Some(TimeFact::Windows { size }) if lists.contains(from) => TimeFact::Window { size },
            Some(fact) if !lists.contains(from) && !unnest.struct_type_columns.contains(from) => fact,
            _ => TimeFact::Nothing,
        };
        Self { columns: unnest.dependency_indices.iter().map(column).collect(), ..*self }
    }

    /// Of the rows of all inputs, whose columns have the same places.
    pub fn union(mut self, other: &Self) -> Self {
        self.updating |= other.updating;
        self.lasting |= other.lasting;
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
        if let Some((time, size)) = window_lists::call(expr)? {
            let in_time = self.of(time, input)? == TimeFact::Event;
            return Ok(if in_time { TimeFact::Windows { size } } else { TimeFact::Nothing });
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
                    (TimeFact::Window { size }, Some("end")) => TimeFact::WindowEnd { size },
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
