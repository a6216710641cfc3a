//! Running it: starts that must refuse, stops that must finish, reloads, commands, what operators see.

mod commands;
mod database;
mod failover;
mod reload;
mod start;
mod stop;
