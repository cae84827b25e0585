//! Why a record is not a row, boxed: a fault is rare, and the path without one must return in registers.

use laminar_core::Error;
use laminar_core::format::{DecodeError, FaultKind};

/// A [`DecodeError`] on its way out.
pub(crate) type Fault = Box<DecodeError>;

/// A fault at byte `offset` of the value.
#[cold]
pub(crate) fn fault(offset: usize, message: impl Into<String>) -> Fault {
    Box::new(DecodeError { message: message.into(), column: None, offset: Some(offset), kind: FaultKind::Malformed })
}

/// A fault that no byte of the value is to blame for.
#[cold]
pub(crate) fn fault_of_record(message: impl Into<String>) -> Fault {
    Box::new(DecodeError { message: message.into(), column: None, offset: None, kind: FaultKind::Malformed })
}

/// Not the record's fault: what is needed to decode it cannot be had now.
#[cold]
pub(crate) fn outage(error: Error) -> Fault {
    let kind = FaultKind::Outage(error.clone());
    Box::new(DecodeError { message: error.to_string(), column: None, offset: None, kind })
}

/// The fault is that a NOT NULL column has no value.
#[cold]
pub(crate) fn of_constraint(mut fault: Fault) -> Fault {
    fault.kind = FaultKind::Constraint;
    fault
}

/// Says which column could not be filled; inner columns come first, so `b` within `a` becomes `a.b`.
#[cold]
pub(crate) fn in_column(mut fault: Fault, name: &str) -> Fault {
    fault.column = Some(match fault.column.take() {
        Some(inner) => format!("{name}.{inner}"),
        None => name.to_string(),
    });
    fault
}
