//! The integration tests, in one binary: one link step, one PostgreSQL cluster, one support folder.

mod support;

mod config;
mod dependencies;
mod edges;
mod habits;
mod journey;
mod listen;
mod mails;
mod one_click;
mod pages;
mod readonly;
mod smtp;
mod tokens;
