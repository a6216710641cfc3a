//! `confirmd keyring`: the keys that sign links.

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Format, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::keyring::{activate, add, compromise, list};

/// What to do with cryptographic keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the registered keys and whether their files are here
    List {
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Makes a link key that verifies and does not sign yet; copy its file to every host, then activate it
    Add,
    /// Lets a link key sign new links; links of the one before stay valid
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
                    Format::Json => println!(
                        "{}",
                        json!({ "id": key.id, "purpose": purpose, "state": key.state,
                            "created_at": key.created_at, "file": verdict })
                    ),
                    Format::Text => println!(
                        "{}  {purpose}  {}  made {}  {verdict}",
                        key.id, key.state, key.created_at
                    ),
                }
            }
            return Ok(if whole { Exit::Done } else { Exit::No });
        }
        Command::Add => {
            let key = add(&pool, dir, now).await?;
            println!("{}", key.id);
            eprintln!(
                "made link key {}; copy {}/links-{}.key to every host, then: confirmd keyring activate {}",
                key.id,
                dir.display(),
                key.id,
                key.id
            );
        }
        Command::Activate { id } => {
            activate(&pool, dir, &id, now).await?;
            eprintln!("link key {id} signs from now on; {RELOAD}");
        }
        Command::Compromise { id } => {
            compromise(&pool, dir, &id, now).await?;
            eprintln!("links of key {id} may only leave from now on; {RELOAD}");
        }
    }
    Ok(Exit::Done)
}
