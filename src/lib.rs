//! confirmd: a double opt-in confirmation daemon.
#![forbid(unsafe_code)]

pub mod domain;
pub mod message;
pub mod template;
