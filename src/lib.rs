//! confirmd: a double opt-in confirmation daemon.
#![forbid(unsafe_code)]

pub mod config;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod telemetry;
