//! `now()`, `proctime()`, `current_timestamp`, `current_date`, `today()`, `current_time`.
//!
//! In a stream the clock is read once per batch: a plan lives for days, so a time fixed at planning would be wrong. In a
//! one-off query the time is fixed, and the same everywhere in it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use laminar_core::table::timestamp_type;
use laminar_core::time::{ManualClock, SharedClock};

/// `proctime()`: of rows that are timed by their arrival it is that time, which lowering puts in; elsewhere it is `now()`.
pub(crate) const PROCESSING_TIME: &str = "proctime";

const MICROS_PER_DAY: i64 = 86_400_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Timestamp,
    Date,
    Time,
}

#[derive(Debug)]
struct ClockFunction {
    name: &'static str,
    aliases: Vec<String>,
    part: Part,
    signature: Signature,
    clock: SharedClock,
}

/// Volatile: never folded, called for each batch.
pub(crate) fn functions(clock: &SharedClock) -> Vec<ScalarUDF> {
    all(clock, Volatility::Volatile)
}

/// The same functions at one moment.
pub(crate) fn frozen(micros: i64) -> Vec<ScalarUDF> {
    let clock: SharedClock = Arc::new(ManualClock::at_micros(micros));
    all(&clock, Volatility::Stable)
}

fn all(clock: &SharedClock, volatility: Volatility) -> Vec<ScalarUDF> {
    let function = |name, aliases: &[&str], part| {
        ScalarUDF::from(ClockFunction {
            name,
            aliases: aliases.iter().map(|a| a.to_string()).collect(),
            part,
            signature: Signature::nullary(volatility),
            clock: clock.clone(),
        })
    };
    vec![
        function("now", &["current_timestamp", "localtimestamp"], Part::Timestamp),
        function(PROCESSING_TIME, &[], Part::Timestamp),
        function("current_date", &["today"], Part::Date),
        function("current_time", &["localtime"], Part::Time),
    ]
}

pub(crate) fn is_processing_time(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().is::<ClockFunction>() && call.name() == PROCESSING_TIME)
}

impl PartialEq for ClockFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.clock, &other.clock)
    }
}
impl Eq for ClockFunction {}
impl Hash for ClockFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ClockFunction {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Timestamp => timestamp_type(),
            Part::Date => DataType::Date32,
            Part::Time => DataType::Time64(TimeUnit::Microsecond),
        })
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let micros = self.clock.now_micros();
        Ok(ColumnarValue::Scalar(match self.part {
            Part::Timestamp => ScalarValue::TimestampMicrosecond(Some(micros), None),
            Part::Date => ScalarValue::Date32(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()),
            Part::Time => ScalarValue::Time64Microsecond(Some(micros.rem_euclid(MICROS_PER_DAY))),
        }))
    }
}
