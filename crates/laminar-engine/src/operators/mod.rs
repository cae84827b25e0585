//! The operators. Each file holds a factory, built by the planner, and the operator it makes.

pub mod aggregate;
mod encoding;
mod groups;
mod join;
mod keyed_log;
mod project;
mod recompute;
pub(crate) mod rows;
mod temporal_join;
mod union;
mod unnest;
mod upsert;

pub use join::{JoinFactory, JoinKind, OuterRows, TimeBounds};
pub use project::ProjectFactory;
pub use recompute::{Emit, RecomputeFactory};
pub use temporal_join::{TemporalJoinFactory, Unmatched};
pub use union::UnionFactory;
pub use unnest::UnnestFactory;
pub use upsert::UpsertFactory;

use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error};

/// A value that cannot be computed (a failed cast, a division by zero) is the data's fault; anything else is ours.
pub fn evaluation_error(error: datafusion::error::DataFusionError) -> Error {
    use arrow::error::ArrowError;
    use datafusion::error::DataFusionError;
    let invalid = |message: String| Error::new(Code::InvalidValue, in_sql(&message));
    match error.find_root() {
        DataFusionError::ArrowError(cause, _) => match cause.as_ref() {
            ArrowError::DivideByZero => {
                invalid("division by zero".to_string()).with_hint("x / NULLIF(y, 0) gives NULL where y is 0")
            }
            ArrowError::CastError(message) | ArrowError::ParseError(message) => {
                invalid(message.clone()).with_hint("TRY_CAST(x AS type) gives NULL where a value is none of the type")
            }
            ArrowError::ArithmeticOverflow(message) => invalid(message.clone())
                .with_hint("compute with a type that holds the result, such as DOUBLE: CAST(x AS DOUBLE)"),
            ArrowError::ComputeError(message) | ArrowError::InvalidArgumentError(message) => invalid(message.clone()),
            other => Error::new(Code::InvalidValue, other.to_string()),
        },
        DataFusionError::Execution(message) => invalid(message.clone()),
        DataFusionError::External(cause) if let Some(ours) = cause.downcast_ref::<Error>() => ours.clone(),
        other => Error::new(Code::Internal, other.to_string()),
    }
}

/// The message with SQL's name of the type that a cast goes to, and a small first letter. Values in it stay as they are.
fn in_sql(message: &str) -> String {
    let cast = message.rsplit_once(" to value of ").or_else(|| message.rsplit_once(" to type "));
    let text = match cast {
        Some((what, to)) => format!("{what} to {}", sql_type(to.trim_end_matches(" type"))),
        None => message.to_string(),
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

fn sql_type(arrow: &str) -> String {
    arrow.parse().map_or_else(|_| arrow.to_string(), |data_type| sql_name(&data_type))
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use datafusion::error::DataFusionError;

    use super::*;

    #[track_caller]
    fn check(error: ArrowError, expected: &str) {
        let error = evaluation_error(DataFusionError::ArrowError(Box::new(error), None));
        assert_eq!(format!("{error:?}"), expected);
    }

    #[test]
    fn values_that_cannot_be_computed_are_told_in_sql() {
        check(
            ArrowError::CastError("Cannot cast string 'Int64 type' to value of Int64 type".into()),
            "invalid_value: cannot cast string 'Int64 type' to BIGINT (hint: TRY_CAST(x AS type) gives NULL where a value is none of the type)",
        );
        check(
            ArrowError::CastError("Can't cast value 300 to type Int8".into()),
            "invalid_value: can't cast value 300 to TINYINT (hint: TRY_CAST(x AS type) gives NULL where a value is none of the type)",
        );
        check(
            ArrowError::DivideByZero,
            "invalid_value: division by zero (hint: x / NULLIF(y, 0) gives NULL where y is 0)",
        );
    }
}
