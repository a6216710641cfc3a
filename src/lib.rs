//! confirmd: a double opt-in confirmation daemon.
//!
//! ```text
//! backend / person / mailbox provider                       operator
//!         |                                                    |
//!       http  -- parse once into types -->  flow  <----------  cli
//!                                             |  decide with domain, token (pure)
//!                                             |  one transaction: state + event + mail
//!                                             v
//!                                           store  -- commit, ring -->  background
//!                                                      deliver: claim -> message -> smtp -> settle
//!                                                      sequence: numbers and signs; sweep: ends what is over
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`domain`] | the rules of consent, pure |
//! | [`token`] | signed links, pure |
//! | [`trail`] | what makes the events tamper-evident, pure |
//! | [`template`], [`message`] | mails and pages; mails as bytes |
//! | [`store`] | the only SQL, for SQLite and PostgreSQL |
//! | [`flow`] | everything that can happen, one file each |
//! | [`smtp`] | sessions with the relay, phase by phase |
//! | [`background`] | what runs without being asked |
//! | [`http`] | routes, problems, pages |
//! | [`cli`], [`config`], [`lifecycle`], [`telemetry`], [`clock`] | how it is run |
//!
//! Which module may use which is a table in `tests/it/edges.rs`, and a test.
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
pub mod trail;
