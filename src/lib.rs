//! confirmd: a double opt-in confirmation daemon.
#![forbid(unsafe_code)]

pub mod clock;
pub mod domain;
pub mod flow;
pub mod smtp;
pub mod store;
pub mod token;
