//! Running it: starts that must refuse, stops that must finish, reloads, commands, what operators see.

mod commands;
mod database;
mod disk;
mod failover;
mod output;
mod reload;
mod space;
mod start;
mod stop;
