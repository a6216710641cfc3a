//! `confirmd message`: the mails that are set aside.

use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

use super::{Exit, Format, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::id::MessageId;
use crate::flow::quarantine::release;

/// Mails that one call lists.
const MOST: i64 = 1000;

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the mails that are set aside, oldest first: whoever had one ended each time without an outcome
    List {
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Queues a mail again that is set aside; exit code 1 if there is no such mail
    Release {
        /// Its id
        id: Uuid,
    },
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    match command {
        Command::List { format } => {
            let aside = pool.read().await?.quarantined(MOST).await?;
            for mail in &aside {
                match format {
                    Format::Json => outln!(
                        "{}",
                        json!({
                            "id": mail.id, "kind": mail.kind, "sender": mail.sender, "signup": mail.signup,
                            "queued_at": mail.created_at, "attempts": mail.attempts, "lost_claims": mail.lost,
                        })
                    ),
                    Format::Text => outln!(
                        "{}  {} of {}, queued {}, lost {} times",
                        mail.id,
                        mail.kind.as_str(),
                        mail.sender,
                        mail.created_at,
                        mail.lost
                    ),
                }
            }
            if format == Format::Text && aside.is_empty() {
                outln!("no mail is set aside");
            }
            Ok(Exit::Done)
        }
        Command::Release { id } => {
            let released = release(&pool, MessageId(id), Clock::System.now()).await?;
            if !released {
                errln!("confirmd: no mail {id} is set aside; see `confirmd message list`");
                return Ok(Exit::No);
            }
            outln!("{id} is queued again");
            Ok(Exit::Done)
        }
    }
}
