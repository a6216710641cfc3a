//! The database as commands open it: beside a running daemon, with the same care.

use secrecy::ExposeSecret;

use crate::config::{Config, DatabaseUrl};
use crate::domain::list::{Sender, SenderId};
use crate::store::Pool;
use crate::store::connect::{ConnectError, Location, connect};
use crate::store::postgres::Way;

/// Returns where the configured database is.
pub fn location(config: &Config) -> Result<Location, ConnectError> {
    match &config.database.url {
        DatabaseUrl::Sqlite { path } => Ok(Location::Sqlite(path.clone())),
        DatabaseUrl::Postgres { url } => {
            let owner = config.database.migrate_url.as_ref();
            let owner = owner.map(ExposeSecret::expose_secret);
            let way = match config.database.pooler {
                true => Way::Pooled,
                false => Way::Direct,
            };
            Location::postgres(url.expose_secret(), owner, way)
        }
    }
}

/// Opens the configured database.
pub async fn pool(config: &Config) -> Result<Pool, ConnectError> {
    connect(&location(config)?, config.database.connections).await
}

/// Returns a configured sender; with one sender alone it need not be named.
pub fn sender<'c>(config: &'c Config, name: Option<&SenderId>) -> anyhow::Result<&'c Sender> {
    let known = || {
        let names = config.senders.iter().map(|sender| sender.id.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match (name, config.senders.as_slice()) {
        (Some(name), senders) => senders.iter().find(|s| s.id == *name).ok_or_else(|| {
            anyhow::anyhow!("no sender \"{name}\" is configured; known: {}", known())
        }),
        (None, [only]) => Ok(only),
        (None, []) => anyhow::bail!("no sender is configured"),
        (None, _) => anyhow::bail!(
            "several senders are configured; name one with --sender: {}",
            known()
        ),
    }
}
