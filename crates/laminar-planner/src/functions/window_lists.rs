//! `hop_windows(time, slide, size)` and `cumulate_windows(time, step, size)`: all windows that a time is in, as a list.
//!
//! What `hop` and `cumulate` mean in GROUP BY, as functions of one row: the same in a stream and in a one-off query. A time of
//! NULL is in no window.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, IntervalUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use laminar_core::table::timestamp_type;
use laminar_core::{Code, Error};
use laminar_engine::operators::aggregate::window_fields;

use super::windows::{WindowKind, check, micros, micros_of};

/// Windows that one time may be in: more are a mistake in the sizes, and would fill the memory.
const MAX_WINDOWS: i64 = 10_000;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowList {
    kind: WindowKind,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<ScalarUDF> {
    let function = |kind| WindowList { kind, signature: Signature::user_defined(Volatility::Immutable) };
    [WindowKind::Hop, WindowKind::Cumulate].map(|kind| ScalarUDF::from(function(kind))).into()
}

/// The time and the windows' one size, if the expression is such a list. Errors: `invalid_value` for sizes that make no window.
pub(crate) fn call(expr: &Expr) -> laminar_core::Result<Option<(&Expr, Option<i64>)>> {
    let expr = match expr {
        Expr::Alias(alias) => &alias.expr,
        other => other,
    };
    let Expr::ScalarFunction(call) = expr else { return Ok(None) };
    let (Some(function), [time, sizes @ ..]) = (call.func.inner().downcast_ref::<WindowList>(), call.args.as_slice())
    else {
        return Ok(None);
    };
    let sizes = sizes.iter().map(|size| micros(function.kind, size)).collect::<laminar_core::Result<Vec<_>>>()?;
    checked(function.kind, &sizes)?;
    Ok(Some((time, sizes.last().copied().filter(|_| function.kind == WindowKind::Hop))))
}

/// The step and the size, µs.
fn checked(kind: WindowKind, sizes: &[i64]) -> laminar_core::Result<(i64, i64)> {
    check(kind, sizes)?;
    let [step, size] = *sizes else { return Err(Error::new(Code::WrongArguments, "two sizes make windows")) };
    if size / step > MAX_WINDOWS {
        let message = format!("a time is in at most {MAX_WINDOWS} windows of {}", kind.name());
        return Err(Error::new(Code::InvalidValue, message).with_hint("GROUP BY the window function itself"));
    }
    Ok((step, size))
}

/// The windows (start, end) that the time is in, the earliest end first.
fn windows_of(kind: WindowKind, time: i64, step: i64, size: i64) -> Vec<(i64, i64)> {
    match kind {
        WindowKind::Cumulate => {
            let start = time.div_euclid(size).saturating_mul(size);
            let first = (time - start).div_euclid(step) + 1;
            (first..=size / step).map(|n| (start, start.saturating_add(n * step))).collect()
        }
        _ => {
            let last = time.div_euclid(step).saturating_mul(step);
            let count = (size - 1).div_euclid(step);
            let starts = (0..=count).rev().map(|n| last.saturating_sub(n * step));
            starts.map(|start| (start, start.saturating_add(size))).filter(|(_, end)| *end > time).collect()
        }
    }
}

impl ScalarUDFImpl for WindowList {
    fn name(&self) -> &str {
        match self.kind {
            WindowKind::Cumulate => "cumulate_windows",
            _ => "hop_windows",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Struct(window_fields()), true))))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Null);
        let is_interval = |t: &DataType| matches!(t, DataType::Interval(_));
        match types {
            [time, step, size] if is_time(time) && is_interval(step) && is_interval(size) => {
                let interval = DataType::Interval(IntervalUnit::MonthDayNano);
                Ok(vec![timestamp_type(), interval.clone(), interval])
            }
            _ => plan_err!(
                "{0} takes a time and intervals: {0}(time, INTERVAL '1 minute', INTERVAL '1 hour')",
                self.name()
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let external = |error: Error| DataFusionError::External(Box::new(error));
        let [time, sizes @ ..] = args.args.as_slice() else { return plan_err!("{} without a time", self.name()) };
        let constant = |size: &ColumnarValue| match size {
            ColumnarValue::Scalar(value) => micros_of(value),
            ColumnarValue::Array(_) => None,
        };
        let sizes = sizes.iter().map(constant).collect::<Option<Vec<_>>>().ok_or_else(|| {
            external(Error::new(
                Code::InvalidValue,
                format!("{} takes constant intervals of days or less", self.name()),
            ))
        })?;
        let (step, size) = checked(self.kind, &sizes).map_err(external)?;
        let times = time.to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let (mut starts, mut ends, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(times.len()));
        for time in times {
            let windows = time.map(|time| windows_of(self.kind, time, step, size)).unwrap_or_default();
            lengths.push(windows.len());
            starts.extend(windows.iter().map(|(start, _)| *start));
            ends.extend(windows.iter().map(|(_, end)| *end));
        }
        let column = |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values)) };
        let windows = StructArray::new(window_fields(), vec![column(starts), column(ends)], None);
        let field = Arc::new(Field::new_list_field(windows.data_type().clone(), true));
        let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(windows), None)?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}
