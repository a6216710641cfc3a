//! The integration tests, in one binary: one link step, one PostgreSQL cluster, one support folder.

mod support;

mod api;
mod audit;
mod config;
mod delivery;
mod demo;
mod dependencies;
mod edges;
mod end_to_end;
mod habits;
mod journey;
mod kill;
mod limits;
mod listen;
mod mails;
mod one_click;
mod pages;
mod readonly;
mod replicas;
mod serve;
mod smtp;
mod statements;
mod states;
mod tokens;
mod trail;
