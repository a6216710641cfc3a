//! `confirmd audit`: whether the trail is what was signed.

use clap::Subcommand;

use super::{Exit, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::epoch;

/// What to do with the trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints the newest signed checkpoint, as it is kept; exit 1 if there is none yet
    Checkpoint,
    /// Declares that a part of the trail is lost, as after the restore of a backup, and goes on from what is left
    Epoch {
        /// What happened; it stands in the trail for good, so name no person
        #[arg(long)]
        reason: String,
    },
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    match command {
        Command::Checkpoint => {
            let Some(kept) = pool.read().await?.last_checkpoint().await? else {
                eprintln!(
                    "no checkpoint is signed yet; `confirmd serve` signs one within a minute of the first event"
                );
                return Ok(Exit::No);
            };
            print!("{}", kept.note);
        }
        Command::Epoch { reason } => {
            let head = epoch::begin(&pool, reason.trim(), Clock::System.now()).await?;
            eprintln!(
                "epoch {} begins after event {}; running daemons go on with it within a second, and checkpoints carry a new name: give auditors the keys of /.well-known/confirmd again",
                head.epoch, head.size
            );
        }
    }
    Ok(Exit::Done)
}
