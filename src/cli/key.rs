//! `confirmd key`: API keys.

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Exit, Format, open, out};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::id::ApiKeyId;
use crate::domain::list::SenderId;
use crate::flow::api_key::{Scope, create, list, revoke};

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a key and prints it as the only line on standard output; it is shown this once
    Create {
        /// Whose signups it opens
        #[arg(long)]
        sender: SenderId,
        /// What it opens, with commas between
        #[arg(long, value_delimiter = ',', required = true)]
        scope: Vec<ScopeName>,
    },
    /// Lists all keys, without their secrets
    List {
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Revokes a key: within a second it opens nothing
    Revoke {
        /// The id that `confirmd key list` shows
        id: ApiKeyId,
    },
}

/// A scope as it is written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScopeName {
    /// Signups and lists
    Signup,
    /// Consent records; more is to come
    Read,
    /// Nothing yet
    Manage,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Signup => Scope::Signup,
            ScopeName::Read => Scope::Read,
            ScopeName::Manage => Scope::Manage,
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let now = Clock::System.now();
    match command {
        Command::Create { sender, scope } => {
            let sender = open::sender(config, Some(&sender))?;
            let mut scopes: Vec<Scope> = Vec::new();
            for scope in scope.into_iter().map(Scope::from) {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
            let pool = open::pool(config).await?;
            let (key, secret) = create(&pool, now, &sender.id, &scopes).await?;
            if let Err(error) = out::try_print(format_args!("{secret}")) {
                let id = key.id;
                let revoked = revoke(&pool, now, id).await;
                revoked.with_context(|| {
                    format!("nobody has the secret of API key {id}; run: confirmd key revoke {id}")
                })?;
                bail!(
                    "standard output: {error}; nobody has the secret of API key {id}: it is revoked"
                );
            }
            pool.close().await;
            errln!(
                "made API key {} for {}; it is shown this once",
                key.id,
                sender.id
            );
        }
        Command::List { format } => {
            let pool = open::pool(config).await?;
            let keys = list(&pool).await?;
            if keys.is_empty() && format == Format::Text {
                errln!(
                    "there are no API keys; make one with: confirmd key create --sender NAME --scope signup"
                );
            }
            for key in keys {
                match format {
                    Format::Json => outln!(
                        "{}",
                        json!({ "id": key.id, "sender": key.sender, "scopes": key.scopes,
                            "created_at": key.created_at, "revoked_at": key.revoked_at })
                    ),
                    Format::Text => outln!(
                        "{}  {}  {}  made {}{}",
                        key.id,
                        key.sender,
                        key.scopes.join(","),
                        key.created_at,
                        key.revoked_at
                            .map(|at| format!("  revoked {at}"))
                            .unwrap_or_default()
                    ),
                }
            }
        }
        Command::Revoke { id } => {
            let pool = open::pool(config).await?;
            if !revoke(&pool, now, id).await? {
                errln!("no API key {id} is in force; `confirmd key list` shows them");
                return Ok(Exit::No);
            }
            errln!("revoked API key {id}");
        }
    }
    Ok(Exit::Done)
}
