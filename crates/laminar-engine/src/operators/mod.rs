//! The operators. Each file holds a factory, built by the planner, and the operator it makes.

mod project;
mod union;
mod unnest;

pub use project::ProjectFactory;
pub use union::UnionFactory;
pub use unnest::UnnestFactory;

use laminar_core::{Code, Error};

/// A value that cannot be computed (a failed cast, a division by zero) is the data's fault; anything else is ours.
pub(crate) fn evaluation_error(error: datafusion::error::DataFusionError) -> Error {
    use datafusion::error::DataFusionError;
    match error.find_root() {
        DataFusionError::ArrowError(cause, _) => Error::new(Code::InvalidValue, cause.to_string()),
        DataFusionError::Execution(message) => Error::new(Code::InvalidValue, message.clone()),
        other => Error::new(Code::Internal, other.to_string()),
    }
}
