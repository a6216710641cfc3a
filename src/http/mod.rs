//! The outside over HTTP.

pub mod listen;
pub mod ops;
