//! Windows over time: which ones a row is in, and which panes they are made of.
//!
//! ```text
//!  hop(2 s, 6 s)      panes of gcd(2 s, 6 s) = 2 s   │ a │ b │ c │ d │
//!                     windows                        [ a   b   c ]
//!                                                        [ b   c   d ]
//! ```
//!
//! A row is put into one pane, whatever the number of windows that it is in. Windows are aligned to 1970-01-01 UTC and
//! half-open: a row at a window's end is in the next.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{Changes, Error, Result};

use crate::operators::rows::evaluate;

/// A kind of window; sizes in µs, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Tumble {
        size: i64,
    },
    /// A window of `size` starts every `slide`.
    Hop {
        slide: i64,
        size: i64,
    },
    /// Windows that start every `size` and grow by `step`: [0, step), [0, 2 step) … [0, size).
    Cumulate {
        step: i64,
        size: i64,
    },
    /// Windows of `size` that start every `slide` and are looked at while they grow: [0, t) for each t that is a multiple of
    /// `every`, or where a window ends. One ends at each multiple of `step` behind its start: at `size`, or as cumulate's.
    Growing {
        slide: i64,
        size: i64,
        step: i64,
        every: i64,
    },
    /// The row has its window: a column of the window that an aggregate below made.
    Given,
    /// Rows of a key that follow each other within `gap`.
    Session {
        gap: i64,
    },
    /// No window: a group goes on for ever.
    Unbounded,
}

/// Where a row's place in time comes from.
#[derive(Clone, Debug)]
pub enum WindowTime {
    /// The event time beside the row.
    Event,
    /// A timestamp (µs). A row without one is in no window, and left out.
    Column(Arc<dyn PhysicalExpr>),
}

impl Span {
    /// The panes that windows are made of, µs.
    pub fn pane(self) -> i64 {
        match self {
            Self::Tumble { size } => size.max(1),
            Self::Hop { slide, size } => gcd(slide, size).max(1),
            Self::Cumulate { step, size } => gcd(step, size).max(1),
            Self::Growing { slide, size, step, every } => gcd(gcd(slide, size), gcd(step, every)).max(1),
            Self::Given | Self::Session { .. } | Self::Unbounded => 1,
        }
    }

    /// Windows that end with the pane which ends at `end`, as (start, end).
    pub fn ending_at(self, end: i64) -> Vec<(i64, i64)> {
        match self {
            Self::Tumble { size } => vec![(end.saturating_sub(size), end)],
            Self::Hop { slide, size } => {
                let start = end.saturating_sub(size);
                if start.rem_euclid(slide) == 0 { vec![(start, end)] } else { vec![] }
            }
            Self::Cumulate { step, size } => {
                let start = floor(end.saturating_sub(1), size);
                let grown = end.saturating_sub(start);
                if grown.rem_euclid(step) == 0 || grown == size { vec![(start, end)] } else { vec![] }
            }
            Self::Growing { slide, size, step, every } => {
                let latest = floor(end.saturating_sub(1), slide);
                let starts = std::iter::successors(Some(latest), |start| start.checked_sub(slide));
                let open = starts.take_while(|start| end.saturating_sub(*start) <= size);
                let looked_at = |start: &i64| end.rem_euclid(every) == 0 || (end - start).rem_euclid(step) == 0;
                open.filter(looked_at).map(|start| (start, end)).collect()
            }
            Self::Given | Self::Session { .. } | Self::Unbounded => vec![],
        }
    }

    /// The windows of [`Span::Growing`] that a look at [start, end) is one of: their ends, from the first on.
    pub(super) fn ends_of_look(self, start: i64, end: i64) -> impl Iterator<Item = i64> {
        let (size, step) = match self {
            Self::Growing { size, step, .. } => (size, step.max(1)),
            _ => (0, 1),
        };
        let grown = end.saturating_sub(start);
        let first = grown.div_euclid(step) + i64::from(grown.rem_euclid(step) != 0);
        (first..=size.div_euclid(step)).map(move |steps| start.saturating_add(steps.saturating_mul(step)))
    }

    /// Where the last look before the one at `end` was; at a window's end, too, all of it is looked at.
    pub(super) fn look_before(self, end: i64) -> Option<i64> {
        match self {
            Self::Growing { every, .. } if end.rem_euclid(every.max(1)) == 0 => Some(end.saturating_sub(every)),
            _ => None,
        }
    }

    /// The last moment (exclusive) at which a window with the pane that starts at `pane` is open.
    pub fn last_end(self, pane: i64) -> i64 {
        match self {
            Self::Tumble { size } => pane.saturating_add(size),
            Self::Hop { slide, size } => floor(pane, slide).saturating_add(size),
            Self::Cumulate { size, .. } => floor(pane, size).saturating_add(size),
            Self::Growing { slide, size, .. } => floor(pane, slide).saturating_add(size),
            Self::Given => pane,
            Self::Session { .. } | Self::Unbounded => i64::MAX,
        }
    }
}

impl WindowTime {
    /// The time of each row; null where it has none.
    pub(super) fn of(&self, changes: &Changes) -> Result<TimestampMicrosecondArray> {
        match self {
            Self::Event => Ok(changes.times().clone()),
            Self::Column(expr) => {
                let array = evaluate(expr, changes.rows())?;
                let typed = array.as_primitive_opt::<TimestampMicrosecondType>().cloned();
                typed.ok_or_else(|| Error::internal(format!("a window over {}", array.data_type())))
            }
        }
    }
}

/// The struct that a window is in SQL: `start` and `end`.
pub fn window_fields() -> Fields {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    Fields::from(vec![Field::new("start", time(), false), Field::new("end", time(), false)])
}

/// One window, `rows` times.
pub(super) fn window_column(start: i64, end: i64, rows: usize) -> ArrayRef {
    let repeated = |time: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from_value(time, rows)) };
    Arc::new(StructArray::new(window_fields(), vec![repeated(start), repeated(end)], None))
}

/// The ends in a column of windows, or the column itself if it is of timestamps; null where there is no window.
pub(in crate::operators) fn window_ends(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let ends = match column.as_struct_opt() {
        Some(windows) => windows.column_by_name("end").cloned(),
        None => Some(Arc::clone(column)),
    };
    let typed = ends.as_ref().and_then(|e| e.as_primitive_opt::<TimestampMicrosecondType>());
    let typed = typed.ok_or_else(|| Error::internal(format!("a window column of {}", column.data_type())))?;
    let nulls = NullBuffer::union(typed.nulls(), column.nulls());
    Ok(TimestampMicrosecondArray::new(typed.values().clone(), nulls))
}

/// The largest multiple of `step` that is not above `time`.
pub(super) fn floor(time: i64, step: i64) -> i64 {
    time.div_euclid(step.max(1)).saturating_mul(step.max(1))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows that end at each pane from 0 on.
    #[track_caller]
    fn check(span: Span, expected: &str) {
        let pane = span.pane();
        let windows = (1..=6).flat_map(|i| span.ending_at(i * pane));
        let text: Vec<_> = windows.map(|(start, end)| format!("{start}..{end}")).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn windows_are_made_of_panes() {
        check(Span::Tumble { size: 10 }, "0..10 10..20 20..30 30..40 40..50 50..60");
        check(Span::Hop { slide: 2, size: 6 }, "-4..2 -2..4 0..6 2..8 4..10 6..12");
        check(Span::Hop { slide: 4, size: 6 }, "-4..2 0..6 4..10");
        check(Span::Hop { slide: 6, size: 4 }, "0..4 6..10");
        check(Span::Cumulate { step: 2, size: 6 }, "0..2 0..4 0..6 6..8 6..10 6..12");
        let tumbling = |every| Span::Growing { slide: 6, size: 6, step: 6, every };
        check(tumbling(2), "0..2 0..4 0..6 6..8 6..10 6..12");
        check(tumbling(3), "0..3 0..6 6..9 6..12 12..15 12..18");
        check(
            Span::Growing { slide: 2, size: 4, step: 4, every: 2 },
            "0..2 -2..2 2..4 0..4 4..6 2..6 6..8 4..8 8..10 6..10 10..12 8..12",
        );
    }

    #[test]
    fn a_look_is_at_all_windows_that_may_still_grow() {
        let ends = |span: Span, end| span.ends_of_look(0, end).collect::<Vec<_>>();
        let tumbling = Span::Growing { slide: 10, size: 10, step: 10, every: 3 };
        assert_eq!((ends(tumbling, 3), ends(tumbling, 10)), (vec![10], vec![10]));
        let cumulating = Span::Growing { slide: 9, size: 9, step: 3, every: 2 };
        assert_eq!((ends(cumulating, 3), ends(cumulating, 4)), (vec![3, 6, 9], vec![6, 9]));
    }

    #[test]
    fn a_pane_is_needed_until_its_last_window_ends() {
        assert_eq!(Span::Hop { slide: 2, size: 6 }.last_end(4), 10);
        assert_eq!(Span::Hop { slide: 4, size: 6 }.last_end(6), 10);
        assert_eq!(Span::Cumulate { step: 2, size: 6 }.last_end(8), 12);
        assert_eq!(Span::Tumble { size: 10 }.last_end(-10), 0);
    }
}
