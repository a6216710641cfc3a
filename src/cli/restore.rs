//! `confirmd restore`: an older database takes the place of the one that was lost, and nobody who left since comes back.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::audit::{Shown, print_report, said};
use super::open::{self, CopyLost};
use super::partial::{Partial, move_aside, part_of};
use super::{Exit, Format};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::consent::Hash;
use crate::flow::backup::inspect;
use crate::flow::restore::{Replayed, Signed, Told, Unfit, complete, read, replay, window};
use crate::flow::{Flows, epoch};
use crate::store::connect::{self, ConnectError, Location, connect, lock, upgrade};
use crate::store::copy::open_copy;
use crate::store::disk::{LOG, with_end};
use crate::store::window::Window;
use crate::store::{self, Pool};

/// What to restore, and what to do again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `confirmd backup` wrote; it is verified, and copied to database.url (SQLite)
    #[arg(required_unless_present_any = ["in_place", "replay"])]
    file: Option<PathBuf>,
    /// The older database is at database.url already, as after pg_restore
    #[arg(long, conflicts_with = "file")]
    in_place: bool,
    /// Moves a database that is at database.url to a dated name beside it; nothing is deleted
    #[arg(long, requires = "file")]
    replace: bool,
    /// Refuses a FILE with another hash than the one that `confirmd backup` printed
    #[arg(long, requires = "file", value_name = "HASH")]
    sha256: Option<Hash>,
    /// Does again every leave, objection, refusal and erasure after the backup, from your own copy of what `confirmd
    /// events export` writes; also later, beside a running service
    #[arg(long, value_name = "EVENTS")]
    replay: Option<PathBuf>,
    /// Says that nothing happened after the last event of EVENTS; people are then eligible again
    #[arg(long, requires = "replay")]
    complete: bool,
    #[command(flatten)]
    lost: CopyLost,
    /// What happened; it stands in the trail for good, so name no person
    #[arg(long, default_value = "a backup was restored", value_parser = said)]
    reason: String,
}

/// Runs the command.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<Exit> {
    match (&args.file, args.in_place) {
        (Some(file), _) => from_file(&args, file, config).await,
        (None, true) => in_place(&args, config).await,
        (None, false) => {
            let pool = open::pool(config).await?;
            let done = catch_up(&args, &pool, config).await;
            pool.close().await;
            done
        }
    }
}

async fn from_file(args: &Args, file: &Path, config: &Config) -> anyhow::Result<Exit> {
    let location = open::location(config)?;
    let Location::Sqlite(path) = &location else {
        bail!(
            "database.url is PostgreSQL: restore with pg_restore into an empty database, then run `confirmd restore --in-place`"
        );
    };
    let _lock = lock(&location)?;
    let there = part_of(path);
    if let Some(part) = &there
        && !args.replace
        && !is_unused(&location).await
    {
        bail!(
            "{} is there already; --replace moves it to a dated name beside it",
            part.display()
        );
    }
    let log = with_end(file, LOG);
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        bail!(
            "{} is a part of it: this is a database in use, not what `confirmd backup` wrote",
            log.display()
        );
    }
    let partial = Partial::beside(path);
    let hash = partial
        .copy_from(file)
        .with_context(|| file.display().to_string())?;
    if args.sha256.is_some_and(|expected| expected != hash) {
        bail!(
            "{} has the hash {hash}: it is another file, or damaged",
            file.display()
        );
    }
    let copy = open_copy(partial.path()).await;
    let copy = copy.with_context(|| format!("a copy of {}", file.display()))?;
    let whole = is_whole(&copy, config).await;
    copy.close().await;
    if !whole? {
        return Ok(Exit::No);
    }
    // All is done to the copy, which then takes its place. Whoever is stopped within that leaves no database there, which
    // `serve` does not take for a new installation.
    let pool = connect(&Location::Sqlite(partial.path().to_owned()), 1).await?;
    let exit = begin(args, &pool, config).await;
    pool.close().await;
    let exit = exit?;
    if there.is_some() {
        // As a name that database.url takes.
        let now = Clock::System.now().to_string().replace(':', "");
        let aside = move_aside(path, &format!(".replaced-{now}"));
        let aside = aside.with_context(|| path.display().to_string())?;
        errln!("the database that was there is now {}", aside.display());
    }
    partial
        .place()
        .with_context(|| path.display().to_string())?;
    errln!("{} is restored; start the service", path.display());
    Ok(exit)
}

async fn in_place(args: &Args, config: &Config) -> anyhow::Result<Exit> {
    let location = open::location(config)?;
    let _lock = lock(&location)?;
    let pool = upgrade(&location, config.database.connections).await?;
    let done = async {
        // To begin an epoch there would leave it unfit for a first start, and restore nothing.
        if nothing_happened(&pool).await? || pool.read().await?.keyring().await?.is_empty() {
            bail!("nothing was restored here: {}", open::UNKNOWN);
        }
        match is_whole(&pool, config).await? {
            true => begin(args, &pool, config).await,
            false => Ok(Exit::No),
        }
    };
    let done = done.await;
    pool.close().await;
    done
}

/// Tells whether a database that is in the way holds nothing, as after a first start that was cut off.
async fn is_unused(location: &Location) -> bool {
    let pool = match connect::open(location, 1).await {
        Ok(pool) => pool,
        Err(error) => return matches!(error, ConnectError::Absent(_)),
    };
    let unused = nothing_happened(&pool).await;
    pool.close().await;
    unused.unwrap_or(false)
}

async fn nothing_happened(pool: &Pool) -> Result<bool, store::Error> {
    Ok(pool.read().await?.last_event_time().await?.is_none())
}

/// Says what is wrong with a database that is to be relied on.
async fn is_whole(pool: &Pool, config: &Config) -> anyhow::Result<bool> {
    let origin = open::origin(pool, config).await?;
    let mut shown = Shown::default();
    let inspected = inspect(pool, &config.keys.dir, &origin, &mut |p| shown.show(p)).await;
    shown.clear();
    let report = inspected?.report;
    let whole = report.first().is_none();
    if !whole {
        print_report(&report, Format::Text);
        errln!("nothing was restored: this is not what was signed");
    }
    Ok(whole)
}

/// Begins the epoch of the restored database, and catches up if that is asked for.
async fn begin(args: &Args, pool: &Pool, config: &Config) -> anyhow::Result<Exit> {
    let signed = open::newest_epoch(pool, config, args.lost).await?;
    let now = Clock::System.now();
    let window = epoch::begin(pool, &args.reason, signed, now).await?;
    errln!("epoch {} begins after event {}", window.epoch, window.size);
    if args.replay.is_some() {
        return catch_up(args, pool, config).await;
    }
    open::tell_window(pool).await?;
    Ok(Exit::Done)
}

/// Does again what the operator's copy tells.
async fn catch_up(args: &Args, pool: &Pool, config: &Config) -> anyhow::Result<Exit> {
    let Some(path) = &args.replay else {
        return Ok(Exit::Done);
    };
    let Some(lost) = window(pool).await? else {
        bail!("nothing is lost: no restore waits for its events");
    };
    let signed = open::outside(pool, config, lost.epoch, lost.size, args.lost).await?;
    let told = tell(path, pool, config, &lost, &signed).await?;
    let flows = open::flows(pool, config).await?;
    let done = replay(&flows, &lost, &told).await?;
    if done.erased > 0 && !pool.scrub().await? {
        errln!(
            "the write-ahead log is in use: traces of the erased may be left in it until the service stops"
        );
    }
    print(&lost, &told, &done);
    Ok(match may_end(args, &told, &signed) {
        Ok(()) => {
            end(&flows, &lost).await?;
            Exit::Done
        }
        Err(why) => {
            outln!("{why}");
            open::tell_window(pool).await?;
            Exit::No
        }
    })
}

async fn tell(
    path: &Path,
    pool: &Pool,
    config: &Config,
    lost: &Window,
    signed: &Signed,
) -> anyhow::Result<Told> {
    let name = || path.display().to_string();
    let file = BufReader::new(File::open(path).with_context(name)?);
    let trusted = open::trusted(pool, config).await?;
    let told: Result<Told, Unfit> =
        read(file, &mut pool.snapshot().await?, lost, &trusted, signed).await;
    told.with_context(|| format!("{}: nothing of it was done", name()))
}

/// Tells whether the copy can be the whole of what was lost, and the operator says that it is.
fn may_end(args: &Args, told: &Told, signed: &Signed) -> Result<(), String> {
    if signed.size() > told.last {
        return Err(format!(
            "events {} to {} are missing: a checkpoint outside signs {}, and the file ends before",
            told.last + 1,
            signed.size(),
            signed.size()
        ));
    }
    if !args.complete {
        return Err(format!(
            "did anything happen after event {} ({})? If the service had stopped, or wrote its events out to the end, run again with --complete",
            told.last, told.until
        ));
    }
    Ok(())
}

async fn end(flows: &Flows, lost: &Window) -> anyhow::Result<()> {
    let now = Clock::System.now();
    // As it is after the replay.
    let reached = window(&flows.pool).await?.filter(|w| w.epoch == lost.epoch);
    complete(&flows.pool, &reached.unwrap_or(*lost), now).await?;
    match window(&flows.pool).await? {
        None => outln!("everything lost was done again: who may be mailed is known"),
        Some(_) => open::tell_window(&flows.pool).await?,
    }
    Ok(())
}

fn print(lost: &Window, told: &Told, done: &Replayed) {
    let Replayed {
        left,
        declined,
        holds,
        erased,
        revoked,
        strangers,
    } = done;
    match told.last > lost.size {
        true => outln!(
            "replayed events {} to {}, of which {} are signed",
            lost.size + 1,
            told.last,
            told.signed - lost.size
        ),
        false => outln!(
            "the file holds no event after the backup's last, {}",
            lost.size
        ),
    }
    outln!(
        "done again: {left} subscriptions ended, {declined} signups declined, {holds} holds changed, {erased} people erased, {revoked} API keys revoked"
    );
    if *strangers > 0 {
        outln!(
            "passed over: {strangers} people who came after the backup; there is nothing to end"
        );
    }
    if !told.keys.is_empty() {
        outln!(
            "keys changed since the backup, and have to be changed again by hand (`confirmd keyring list`): {}",
            told.keys.join(", ")
        );
    }
}
