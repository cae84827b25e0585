//! Columns under construction, whichever format fills them: Arrow's buffers, row by row.
//!
//! ```text
//!  flat     Values (one width), Booleans, Bytes (any length)        what is null, and the values laid end to end
//!  scalar   one of these for each type of SQL without others in it
//!  nested   Ends: where the entries of each row end in a child column; arrays, STRUCTs and MAPs of finished columns
//!  repeats  keys of a MAP that came more than once
//! ```
//!
//! The rules for all of them: after a fault a column may be longer than the rows that are done, and whoever knows the row cuts it back
//! with `truncate`; what takes the array out leaves an empty column, with room for as many rows again.

mod flat;
mod nested;
mod repeats;
mod scalar;

pub(crate) use flat::{Booleans, Bytes, Values};
pub(crate) use nested::{Ends, map_fields, struct_array, text_map_value};
pub(crate) use repeats::Repeats;
pub(crate) use scalar::Scalar;
