//! Functions beyond DataFusion's: JSON, JSONPath, `hash`, `mod`, lenient UTF-8, windows, watermarks, and a clock that is read per batch.
//!
//! Results of `hash` choose partitions and shares of work, so it must never change between versions.

pub(crate) mod clock;
mod hash;
mod json_operators;
mod json_path;
mod json_path_functions;
mod modulo;
mod not_null;
pub(crate) mod table_windows;
mod utf8_lossy;
pub(crate) mod watermark;
pub(crate) mod window_lists;
pub(crate) mod windows;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::ScalarUDF;
use laminar_core::time::SharedClock;

pub(crate) use self::not_null::not_null;

pub(crate) fn register(state: &mut SessionState, clock: &SharedClock) -> Result<()> {
    // our operators first: the planners are asked in order
    state.register_expr_planner(Arc::new(json_operators::JsonOperators))?;
    datafusion_functions_json::register_all(state)?;
    for function in clock::functions(clock) {
        replace(state, function)?;
    }
    replace(state, ScalarUDF::from(hash::Hash::default()))?;
    replace(state, ScalarUDF::from(modulo::Modulo::default()))?;
    replace(state, ScalarUDF::from(utf8_lossy::FromUtf8Lossy::default()))?;
    replace(state, watermark::function())?;
    for function in
        json_path_functions::functions().into_iter().chain(windows::functions()).chain(window_lists::functions())
    {
        replace(state, function)?;
    }
    Ok(())
}

/// Makes `now()` and its kin give this time.
pub(crate) fn freeze_clock(state: &mut SessionState, micros: i64) -> Result<()> {
    clock::frozen(micros).into_iter().try_for_each(|function| replace(state, function))
}

fn replace(state: &mut SessionState, function: ScalarUDF) -> Result<()> {
    state.register_udf(Arc::new(function)).map(|_| ())
}
