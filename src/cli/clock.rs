//! `confirmd clock`: what to do when the clock has jumped.

use clap::Subcommand;

use super::{Exit, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::jump::accept;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Believes the clock of this machine as it is now; exit code 1 if nothing is wrong with it
    ///
    /// When a clock jumps ahead by more than an hour nothing expires and nothing is deleted, which a log line, the metric
    /// confirmd_clock_alarm and /readyz say. On SQLite a service that was off for an hour sees the same. Look whether the time
    /// is right (`date`), then run this: the service goes on within ten seconds, and the trail has the event
    /// `clock.accepted`. On PostgreSQL a process whose clock the server's own agrees with needs none of it.
    Accept,
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let Command::Accept = command;
    let pool = open::pool(config).await?;
    let now = Clock::System.now();
    let accepted = accept(&pool, now).await?;
    pool.close().await;
    let Some(known) = accepted else {
        errln!("confirmd: it is {now}, which follows what is known; there is nothing to accept");
        return Ok(Exit::No);
    };
    outln!("accepted: it is {now}; the last time that was known is {known}");
    Ok(Exit::Done)
}
