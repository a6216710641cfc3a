//! `confirmd audit`: whether the trail is what was signed.

mod prove;
mod verify;

use anyhow::bail;
use clap::Subcommand;

use super::open::{self, CopyLost};
use super::{Exit, Source};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::epoch;
use crate::flow::restore::{Interval, accept};

pub use verify::{Shown, print_report};

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
    /// Declares that a part of the trail is lost, and goes on from what is left; `confirmd restore` does it by itself
    ///
    /// From then on nobody is eligible (`restored`): who left in the lost time is not known. That ends when their leaves
    /// were done again (`confirmd restore --replay`), or when the window is accepted.
    Epoch {
        /// What happened; it stands in the trail for good, so name no person
        #[arg(long, required_unless_present = "accept_window", value_parser = said)]
        reason: Option<String>,
        /// Goes on without knowing who left in this time, which `confirmd stats` shows: every consent from before its end
        /// lapses, and so does every link of a signup from before. Who signs up and confirms after it is eligible; nobody
        /// else ever is, for nobody can tell who left
        #[arg(long, value_name = "SINCE/UNTIL", conflicts_with = "reason")]
        accept_window: Option<Interval>,
        #[command(flatten)]
        lost: CopyLost,
    },
}

/// Reads words that say something.
pub fn said(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("is blank; say what happened"),
        said => Ok(said.to_owned()),
    }
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
                errln!(
                    "no checkpoint is signed yet; `confirmd serve` signs one within a minute of the first event"
                );
                return Ok(Exit::No);
            };
            outln!("{}", kept.note.trim_end());
            Ok(Exit::Done)
        }
        Command::Epoch {
            accept_window: Some(named),
            ..
        } => accept_window(named, &source.load()?).await,
        Command::Epoch { reason, lost, .. } => {
            let config = source.load()?;
            let pool = open::pool(&config).await?;
            let signed = open::newest_epoch(&pool, &config, lost).await?;
            let reason = reason.unwrap_or_default();
            let now = Clock::System.now();
            let window = epoch::begin(&pool, &reason, signed, now).await?;
            errln!(
                "epoch {} begins after event {}; running daemons go on with it within a second, and checkpoints carry a new name: give auditors the keys of /.well-known/confirmd again",
                window.epoch,
                window.size
            );
            open::tell_window(&pool).await?;
            Ok(Exit::Done)
        }
    }
}

/// Ends what is lost without knowing it.
async fn accept_window(named: Interval, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    let windows = pool.read().await?.open_windows().await?;
    match Interval::of(&windows) {
        None => bail!("no window is open: nothing is lost"),
        Some(open) if open != named => bail!("the window that is open is {open}"),
        Some(_) => {}
    }
    let flows = open::flows(&pool, config).await?;
    let accepted = accept(&flows, &windows).await?;
    outln!(
        "accepted: {} subscriptions lapsed and {} signups ended; who signs up and confirms from now on is eligible",
        accepted.lapsed,
        accepted.expired
    );
    pool.close().await;
    Ok(Exit::Done)
}
