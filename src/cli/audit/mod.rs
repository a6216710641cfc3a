//! `confirmd audit`: whether the trail is what was signed.

mod prove;
mod verify;

use clap::Subcommand;

use super::{Exit, Source, open};
use crate::clock::Clock;
use crate::flow::epoch;

/// What to do with the trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Looks whether anything was changed since it was signed; exit 0 intact, 1 broken, 2 could not look
    Verify(verify::Args),
    /// Prints what shows that an event is in the trail, as JSON; exit 1 if nothing shows it
    Prove(prove::Args),
    /// Prints what shows that the trail only grew between two sizes, as JSON; exit 1 if nothing shows it
    Consistency(prove::Sizes),
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
pub async fn run(command: Command, source: &Source) -> anyhow::Result<Exit> {
    match command {
        Command::Verify(args) => verify::run(args, source).await,
        Command::Prove(args) => prove::event(args, &source.load()?).await,
        Command::Consistency(sizes) => prove::growth(sizes, &source.load()?).await,
        Command::Checkpoint => {
            let pool = open::pool(&source.load()?).await?;
            let Some(kept) = pool.read().await?.last_checkpoint().await? else {
                eprintln!(
                    "no checkpoint is signed yet; `confirmd serve` signs one within a minute of the first event"
                );
                return Ok(Exit::No);
            };
            print!("{}", kept.note);
            Ok(Exit::Done)
        }
        Command::Epoch { reason } => {
            let pool = open::pool(&source.load()?).await?;
            let head = epoch::begin(&pool, reason.trim(), Clock::System.now()).await?;
            eprintln!(
                "epoch {} begins after event {}; running daemons go on with it within a second, and checkpoints carry a new name: give auditors the keys of /.well-known/confirmd again",
                head.epoch, head.size
            );
            Ok(Exit::Done)
        }
    }
}
