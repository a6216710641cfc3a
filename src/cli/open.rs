//! The database as commands open it: beside a running daemon, with the same care.

use std::sync::Arc;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;

use super::settings::{self, settings};
use crate::background::copies::NEWEST;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::domain::list::{Sender, SenderId};
use crate::flow::audit::trusted::Trusted;
use crate::flow::checkpoint::signed_as;
use crate::flow::keyring::open_existing;
use crate::flow::restore::{Interval, Signed};
use crate::flow::space::Space;
use crate::flow::{Flows, InForce, Keys};
use crate::store::Pool;
use crate::store::connect::{self, ConnectError, Location};
use crate::store::postgres::{Terms, Way};
use crate::telemetry::metrics::Metrics;

/// Whether outside copies are to be had.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CopyLost {
    /// Goes on though trail.copy holds no checkpoint any more: what was signed after the backup is then not known
    #[arg(long)]
    copy_lost: bool,
}

/// Returns where the configured database is.
pub fn location(config: &Config) -> Result<Location, ConnectError> {
    match &config.database.url {
        // Locks and logs stand beside the file itself, by whatever name it is reached.
        DatabaseUrl::Sqlite { path } => Ok(Location::Sqlite(
            path.canonicalize().unwrap_or_else(|_| path.clone()),
        )),
        DatabaseUrl::Postgres { url } => {
            let owner = config.database.migrate_url.as_ref();
            let owner = owner.map(ExposeSecret::expose_secret);
            let way = match config.database.pooler {
                true => Way::Pooled,
                false => Way::Direct,
            };
            let statement = config.database.statement_timeout;
            Location::postgres(url.expose_secret(), owner, Terms { way, statement })
        }
    }
}

/// Opens the configured database, which `confirmd serve` has made.
pub async fn pool(config: &Config) -> Result<Pool, ConnectError> {
    connect::open(&location(config)?, config.database.connections).await
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
        (None, []) => bail!("no sender is configured"),
        (None, _) => bail!(
            "several senders are configured; name one with --sender: {}",
            known()
        ),
    }
}

/// What is said of a database on which nobody served.
pub const UNKNOWN: &str = "nothing is known yet: the service has not run on this database. Is database.url the right one?";

/// Opens the keys of the installation.
pub async fn keys(pool: &Pool, config: &Config) -> anyhow::Result<Keys> {
    let keys = open_existing(pool, &config.keys.dir).await?;
    keys.context(UNKNOWN)
}

/// Opens what flows need, for one that changes states beside a running service.
pub async fn flows(pool: &Pool, config: &Config) -> anyhow::Result<Flows> {
    let keys = keys(pool, config).await?;
    let clock = Clock::System;
    let metrics = Arc::new(Metrics::new(clock.now().as_seconds()));
    // Lists come into force by `serve` alone; what they said at a signup is kept in the database.
    let (pool, in_force) = (pool.clone(), InForce::default());
    // The daemon watches the disk.
    let unwatched = Space::new(None, 0);
    Ok(Flows::new(
        pool,
        clock,
        settings(config),
        metrics,
        keys,
        in_force,
        unwatched,
    ))
}

/// Says that a window is open, and what ends it.
pub async fn tell_window(pool: &Pool) -> anyhow::Result<()> {
    let windows = pool.read().await?.open_windows().await?;
    if let Some(interval) = Interval::of(&windows) {
        outln!(
            "restored: nobody is eligible, since who left in the lost time is not known. Either do their leaves again with `confirmd restore --replay EVENTS --complete`, or lapse every consent from before and go on without: `confirmd audit epoch --accept-window {interval}`"
        );
    }
    Ok(())
}

/// Returns the name of the trail, which must be the one that it was signed under.
pub async fn origin(pool: &Pool, config: &Config) -> anyhow::Result<String> {
    let origin = settings::origin(config);
    match signed_as(pool).await? {
        Some(signed) if signed != origin => bail!(
            "trail.origin: the trail is signed as \"{signed}\", and the configuration calls it \"{origin}\"; write origin = \"{signed}\" under [trail] (left out, it follows server.public_url)"
        ),
        _ => Ok(origin),
    }
}

/// Returns the public keys that may have signed the trail.
pub async fn trusted(pool: &Pool, config: &Config) -> anyhow::Result<Trusted> {
    let origin = origin(pool, config).await?;
    Ok(Trusted::registered(pool, &config.keys.dir, origin).await?)
}

/// Returns the newest epoch of which there is an outside copy.
pub async fn newest_epoch(pool: &Pool, config: &Config, lost: CopyLost) -> anyhow::Result<u64> {
    let signed = outside(pool, config, u64::MAX, u64::MAX, lost).await?;
    Ok(signed.epoch)
}

/// Reads what the outside copies say of epochs before one, over more than so many events.
pub async fn outside(
    pool: &Pool,
    config: &Config,
    before: u64,
    over: u64,
    lost: CopyLost,
) -> anyhow::Result<Signed> {
    let Some(dir) = &config.trail.copy else {
        return Ok(Signed::default());
    };
    if !lost.copy_lost && !dir.join(NEWEST).is_file() && signed_as(pool).await?.is_some() {
        bail!(
            "trail.copy: {} holds no checkpoint, and this trail has some: mount the folder, or copy it back. Without it numbers may be signed a second time; if it is lost for good, say so with --copy-lost",
            dir.display()
        );
    }
    let trusted = trusted(pool, config).await?;
    Signed::read(dir, &trusted, before, over)
        .with_context(|| format!("trail.copy: {}", dir.display()))
}
