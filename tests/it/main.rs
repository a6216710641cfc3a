//! The integration tests, one binary.

mod smtp;
mod support;
