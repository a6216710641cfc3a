//! The integration tests, in one binary: one link step, one PostgreSQL cluster, one support folder.

mod support;

mod config;
mod demo;
mod dependencies;
mod edges;
mod habits;
mod listen;
mod mails;
mod smtp;
