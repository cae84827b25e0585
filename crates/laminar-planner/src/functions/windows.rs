//! Windows as functions of a time: `tumble(ts, size)` is the window that `ts` is in, a struct of `start` and `end`.
//!
//! As a real function it gives the same in a stream and in a one-off query. `tumble(size)`, of the event time, has no
//! argument that says so: lowering puts the event time in. `hop`, `cumulate` and `session` put a row into several windows or
//! into one that depends on other rows: they are only understood in GROUP BY, where lowering finds them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::ArrowPrimitiveType;
use arrow::datatypes::{DataType, Fields, IntervalMonthDayNanoType, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, Spanned};
use laminar_core::table::timestamp_type;
use laminar_core::{Code, Error};
use laminar_engine::operators::aggregate::{Span, window_fields};

const MICROS_PER_DAY: i64 = 86_400_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WindowKind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

/// Volatile: a constant `tumble(INTERVAL '1 hour')` must not be folded, its time comes with each row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    kind: WindowKind,
    /// `EMIT EVERY`, µs.
    every: Option<i64>,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<ScalarUDF> {
    WindowKind::ALL.map(|kind| ScalarUDF::from(WindowFunction::new(kind, None))).into()
}

impl WindowFunction {
    fn new(kind: WindowKind, every: Option<i64>) -> Self {
        Self { kind, every, signature: Signature::user_defined(Volatility::Volatile) }
    }
}

/// A window function as it stands in a query.
#[derive(Clone, Debug)]
pub(crate) struct WindowCall {
    pub kind: WindowKind,
    /// `None`: of the event time.
    pub time: Option<Expr>,
    /// µs, in the order of the arguments.
    intervals: Vec<i64>,
    /// `EMIT EVERY`, µs.
    every: Option<i64>,
}

impl WindowKind {
    const ALL: [Self; 4] = [Self::Tumble, Self::Hop, Self::Cumulate, Self::Session];

    /// Of a function's name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble => "tumble",
            Self::Hop => "hop",
            Self::Cumulate => "cumulate",
            Self::Session => "session",
        }
    }

    fn intervals(self) -> usize {
        match self {
            Self::Tumble | Self::Session => 1,
            Self::Hop | Self::Cumulate => 2,
        }
    }

    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "tumble(size), or tumble(time, size): tumble(INTERVAL '1 hour')",
            Self::Hop => "hop(slide, size), or hop(time, slide, size): hop(INTERVAL '1 minute', INTERVAL '1 hour')",
            Self::Cumulate => "cumulate(step, size): cumulate(INTERVAL '1 hour', INTERVAL '1 day')",
            Self::Session => "session(gap), or session(time, gap): session(INTERVAL '5 minutes')",
        }
    }
}

impl WindowCall {
    /// The expression, if it is a window function. Errors: `invalid_value` for sizes that make no window.
    pub fn of(expr: &Expr) -> laminar_core::Result<Option<Self>> {
        let Expr::ScalarFunction(call) = expr else {
            return match expr {
                Expr::Alias(alias) => Self::of(&alias.expr),
                _ => Ok(None),
            };
        };
        let Some(function) = call.func.inner().downcast_ref::<WindowFunction>() else { return Ok(None) };
        let kind = function.kind;
        let (time, sizes) = match call.args.len() > kind.intervals() {
            true => (call.args.first().cloned(), call.args.get(1..).unwrap_or_default()),
            false => (None, call.args.as_slice()),
        };
        let intervals = sizes.iter().map(|size| micros(kind, size)).collect::<laminar_core::Result<Vec<_>>>()?;
        check(kind, &intervals)?;
        Ok(Some(Self { kind, time, intervals, every: function.every }))
    }

    /// The same expression, of windows that also come out while they grow.
    pub fn emitting_every(expr: &Expr, every: i64) -> Expr {
        match expr {
            Expr::Alias(alias) => {
                let mut alias = alias.clone();
                alias.expr = Box::new(Self::emitting_every(&alias.expr, every));
                Expr::Alias(alias)
            }
            Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<WindowFunction>() {
                Some(function) => {
                    let function = ScalarUDF::from(WindowFunction::new(function.kind, Some(every)));
                    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), call.args.clone()))
                }
                None => expr.clone(),
            },
            other => other.clone(),
        }
    }

    pub fn span(&self) -> Option<Span> {
        if let Some(every) = self.every {
            return self.growing(every);
        }
        match (self.kind, self.intervals.as_slice()) {
            (WindowKind::Tumble, [size]) => Some(Span::Tumble { size: *size }),
            (WindowKind::Hop, [slide, size]) => Some(Span::Hop { slide: *slide, size: *size }),
            (WindowKind::Session, [gap]) => Some(Span::Session { gap: *gap }),
            (WindowKind::Cumulate, [step, size]) => Some(Span::Cumulate { step: *step, size: *size }),
            _ => None,
        }
    }

    fn growing(&self, every: i64) -> Option<Span> {
        let (slide, size, step) = match (self.kind, self.intervals.as_slice()) {
            (WindowKind::Tumble, [size]) => (*size, *size, *size),
            (WindowKind::Hop, [slide, size]) => (*slide, *size, *size),
            (WindowKind::Cumulate, [step, size]) => (*size, *size, *step),
            _ => return None,
        };
        Some(Span::Growing { slide, size, step, every })
    }

    /// Of windows that all have one.
    pub fn size(&self) -> Option<i64> {
        match self.kind {
            WindowKind::Tumble | WindowKind::Hop => self.intervals.last().copied(),
            WindowKind::Cumulate | WindowKind::Session => None,
        }
    }
}

pub(super) fn check(kind: WindowKind, intervals: &[i64]) -> laminar_core::Result<()> {
    let invalid = |message: String| Err(Error::new(Code::InvalidValue, message).with_hint(kind.usage()));
    if intervals.iter().any(|micros| *micros <= 0) {
        return invalid(format!("the size of a {} window is more than nothing", kind.name()));
    }
    match (kind, intervals) {
        (WindowKind::Cumulate, [step, size]) if size % step != 0 => {
            invalid("the size of cumulate is a multiple of its step".to_string())
        }
        _ => Ok(()),
    }
}

/// Of a call in a query's text, before it is planned. Errors: as [`WindowCall::of`].
pub(crate) fn check_sizes(kind: WindowKind, sizes: &[Expr]) -> laminar_core::Result<()> {
    check(kind, &sizes.iter().map(|size| micros(kind, size)).collect::<laminar_core::Result<Vec<_>>>()?)
}

/// The window of a function by this name: `hop`, and `hop_start`, `hop_end` too.
pub(crate) fn called(name: &str) -> Option<WindowKind> {
    WindowKind::named(name).or_else(|| Some(start_or_end(name)?.0))
}

/// The window and field of `hop_start`, `hop_end`, ….
fn start_or_end(name: &str) -> Option<(WindowKind, &'static str)> {
    let (window, field) = name.rsplit_once('_')?;
    Some((WindowKind::named(window)?, ["start", "end"].into_iter().find(|f| f.eq_ignore_ascii_case(field))?))
}

/// Is it `tumble(size)`, of the event time? The other windows stand in GROUP BY only.
pub(crate) fn is_without_time(function: &ast::Function) -> bool {
    let ast::FunctionArguments::List(list) = &function.args else { return false };
    called(&function.name.to_string()) == Some(WindowKind::Tumble) && list.args.len() == WindowKind::Tumble.intervals()
}

/// The argument, if it is an interval literal.
pub(crate) fn interval_of(arg: &ast::FunctionArg) -> Option<&ast::Expr> {
    match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr @ ast::Expr::Interval(_))) => Some(expr),
        _ => None,
    }
}

/// `tumble_start(…)` as `tumble(…)['start']`, and so on for each window function and `_end`.
pub(crate) fn spell_out(query: &mut ast::Query) {
    let _: ControlFlow<()> = ast::visit_expressions_mut(query, |expr| {
        if let ast::Expr::Function(function) = expr
            && let Some((window, field)) = start_or_end(&function.name.to_string())
        {
            let span = function.name.span();
            let named = |name: &str| ast::ObjectName::from(vec![ast::Ident::with_span(span, name)]);
            let mut call = function.clone();
            call.name = named(window.name());
            let unnamed = |e: ast::Expr| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e));
            function.name = named("get_field");
            function.args = ast::FunctionArguments::List(ast::FunctionArgumentList {
                duplicate_treatment: None,
                args: vec![
                    unnamed(ast::Expr::Function(call)),
                    unnamed(ast::Expr::value(ast::Value::SingleQuotedString(field.to_string()))),
                ],
                clauses: vec![],
            });
        }
        ControlFlow::Continue(())
    });
}

/// A constant interval in µs.
pub(super) fn micros(kind: WindowKind, expr: &Expr) -> laminar_core::Result<i64> {
    let interval = match expr {
        Expr::Literal(value, _) => micros_of(value),
        Expr::Alias(alias) => return micros(kind, &alias.expr),
        _ => None,
    };
    interval.ok_or_else(|| {
        let message = format!("{} takes constant intervals of days or less", kind.name());
        Error::new(Code::InvalidValue, message).with_hint(kind.usage())
    })
}

/// µs of a constant interval of days or less.
pub(crate) fn micros_of(value: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return None };
    of_interval(*interval)
}

/// Months have no fixed length, and nothing is finer than a microsecond.
fn of_interval(interval: <IntervalMonthDayNanoType as ArrowPrimitiveType>::Native) -> Option<i64> {
    if interval.months != 0 || interval.nanoseconds % 1000 != 0 {
        return None;
    }
    i64::from(interval.days).checked_mul(MICROS_PER_DAY)?.checked_add(interval.nanoseconds / 1000)
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(window_fields()))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let interval = || DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let sizes = self.kind.intervals();
        let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
        let is_interval = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Null);
        let (time, rest) = match types.first() {
            Some(first) if types.len() == sizes + 1 && is_time(first) => (true, types.get(1..).unwrap_or_default()),
            _ => (false, types),
        };
        if rest.len() != sizes || !rest.iter().all(is_interval) {
            return plan_err!("{} takes constant intervals: {}", self.kind.name(), self.kind.usage());
        }
        Ok(time.then(timestamp_type).into_iter().chain(std::iter::repeat_with(interval).take(sizes)).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (WindowKind::Tumble, [time, size]) = (self.kind, args.args.as_slice()) else {
            let name = self.kind.name();
            return match self.kind {
                WindowKind::Tumble => exec_err!("tumble(size) is known in a pipeline only: write tumble(time, size)"),
                _ => exec_err!("{name} is known in the GROUP BY of a pipeline only"),
            };
        };
        let ColumnarValue::Scalar(size) = size else { return exec_err!("the size of tumble is constant") };
        let Some(size) = micros_of(size).filter(|size| *size > 0) else {
            return exec_err!("tumble takes a constant interval of days or less");
        };
        let times = time.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(tumble(times.as_primitive::<TimestampMicrosecondType>(), size)))
    }
}

fn tumble(times: &TimestampMicrosecondArray, size: i64) -> ArrayRef {
    let starts: TimestampMicrosecondArray = times.unary(|time| time.div_euclid(size).saturating_mul(size));
    let ends: TimestampMicrosecondArray = starts.unary(|start: i64| start.saturating_add(size));
    let nulls = times.nulls().cloned();
    let fields: Fields = window_fields();
    // The struct says which rows have no window; its fields have none that is NULL.
    let bare = |a: TimestampMicrosecondArray| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::new(a.values().clone(), None))
    };
    Arc::new(StructArray::new(fields, vec![bare(starts), bare(ends)], nulls))
}
