//! The integration tests, in one binary: one link step, one PostgreSQL cluster, one support folder.

mod support;

mod api;
mod audit;
mod checkpoints;
mod config;
mod delivery;
mod demo;
mod dependencies;
mod edges;
mod end_to_end;
mod erasure;
mod habits;
mod interop;
mod journey;
mod kill;
mod limits;
mod listen;
mod mails;
mod network;
mod one_click;
mod outlets;
mod pages;
mod plans;
mod readonly;
mod receipt;
mod record;
mod replicas;
mod restore;
mod serve;
mod smtp;
mod statements;
mod states;
mod tokens;
mod trail;
mod transactions;
