//! `confirmd keyring`: the keys that sign links and checkpoints.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Exit, Format, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::keyring::{activate, add, compromise, list};
use crate::store::keyring::Purpose;

/// What to do with cryptographic keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the registered keys and whether their files are here
    List {
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Makes a key that verifies and does not sign yet; copy its file to every host, have the daemons take it with SIGHUP,
    /// then activate it
    Add {
        /// What it is to sign
        #[arg(long = "for", value_enum, default_value_t = Signs::Links)]
        signs: Signs,
    },
    /// Lets a key sign; what the one before signed stays valid. On PostgreSQL refused while a running daemon lacks it
    Activate {
        /// The id that `confirmd keyring list` shows
        id: String,
    },
    /// Declares a link key compromised: its links may still leave, and do nothing else
    Compromise {
        /// The id that `confirmd keyring list` shows
        id: String,
    },
}

/// What a new key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Signs {
    /// Confirm, decline and unsubscribe links
    Links,
    /// Checkpoints of the trail
    Trail,
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let now = Clock::System.now();
    let dir = &config.keys.dir;
    let pool = open::pool(config).await?;
    const RELOAD: &str = "running daemons take it with SIGHUP";
    match command {
        Command::List { format } => {
            let mut whole = true;
            for (key, file) in list(&pool, dir).await? {
                whole &= file.is_ok();
                let verdict = file
                    .err()
                    .map_or("ok".to_owned(), |error| error.to_string());
                let purpose = key.purpose.as_str();
                match format {
                    Format::Json => outln!(
                        "{}",
                        json!({ "id": key.id, "purpose": purpose, "state": key.state,
                            "created_at": key.created_at, "file": verdict })
                    ),
                    Format::Text => outln!(
                        "{}  {purpose}  {}  made {}  {verdict}",
                        key.id,
                        key.state,
                        key.created_at
                    ),
                }
            }
            return Ok(if whole { Exit::Done } else { Exit::No });
        }
        Command::Add { signs } => {
            let purpose = match signs {
                Signs::Links => Purpose::Links,
                Signs::Trail => Purpose::Trail,
            };
            let key = add(&pool, dir, purpose, now).await?;
            let (id, dir, purpose) = (&key.id, dir.display(), purpose.as_str());
            outln!("{id}");
            errln!(
                "made key {id}; copy {dir}/{purpose}-{id}.key to every host, send each daemon SIGHUP, then: confirmd keyring activate {id}"
            );
        }
        Command::Activate { id } => {
            if config.database.pooler {
                errln!(
                    "through a pooler it cannot be seen whether every running daemon has the key: look that each took it with SIGHUP"
                );
            }
            activate(&pool, dir, &id, now).await?;
            errln!("key {id} signs from now on; {RELOAD}");
        }
        Command::Compromise { id } => {
            compromise(&pool, dir, &id, now).await?;
            errln!("links of key {id} may only leave from now on; {RELOAD}");
        }
    }
    Ok(Exit::Done)
}
