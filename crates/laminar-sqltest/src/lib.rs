//! laminar-core
