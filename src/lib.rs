//! confirmd: a double opt-in confirmation daemon.
#![forbid(unsafe_code)]

pub mod background;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod flow;
pub mod http;
pub mod lifecycle;
pub mod message;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod token;
