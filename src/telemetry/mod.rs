//! What an operator sees: logs and metrics, without an address, a token or a link in either.

pub mod logs;
pub mod metrics;
mod request;
