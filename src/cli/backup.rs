//! `confirmd backup`: a copy of the database, verified before it has its name.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;

use super::audit::{Shown, print_report};
use super::partial::{Partial, measure};
use super::{Exit, Format, open};
use crate::config::{Config, DatabaseUrl};
use crate::domain::consent::Hash;
use crate::flow::backup::{Inspected, inspect};
use crate::store::copy::open_copy;

/// Where the copy goes, and how to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write; it must not be there yet
    file: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<Exit> {
    let DatabaseUrl::Sqlite { path } = &config.database.url else {
        bail!(
            "database.url is PostgreSQL, which makes its own backups: run `pg_dump --format=custom --file={} <database.url>` (consistent while confirmd runs), keep keys.dir apart from it, and restore with pg_restore and `confirmd restore --in-place`",
            args.file.display()
        );
    };
    let name = args.file.display();
    if !path.exists() {
        bail!("database.url: {} is not there", path.display());
    }
    refuse_known(&args.file)?;
    let partial = Partial::beside(&args.file);
    let written = partial.path().to_str();
    let written = written.with_context(|| format!("{name}: the name is not UTF-8"))?;
    partial
        .make()
        .with_context(|| format!("{name} cannot be made"))?;
    let pool = open::pool(config).await?;
    let copied = pool.copy_into(written).await;
    pool.close().await;
    copied.with_context(|| format!("{name} cannot be written (no folder, no right, no space?)"))?;

    let copy = open_copy(partial.path()).await?;
    let mut shown = Shown::default();
    let inspected = async {
        let (keys, origin) = (&config.keys.dir, open::origin(&copy, config).await?);
        anyhow::Ok(inspect(&copy, keys, &origin, &mut |p| shown.show(p)).await?)
    };
    let inspected = inspected.await;
    copy.close().await;
    shown.clear();
    let inspected = inspected?;
    if inspected.report.first().is_some() {
        print_report(&inspected.report, args.format);
        errln!("no backup was written: the database is not what was signed");
        return Ok(Exit::No);
    }
    let (size, hash) = measure(partial.path()).with_context(|| name.to_string())?;
    refuse_known(&args.file)?;
    partial.place().with_context(|| name.to_string())?;
    match args.format {
        Format::Json => outln!("{}", document(&args.file, size, hash, &inspected)),
        Format::Text => print(&args.file, size, hash, &inspected, config),
    }
    Ok(Exit::Done)
}

fn refuse_known(file: &Path) -> anyhow::Result<()> {
    if std::fs::symlink_metadata(file).is_ok() {
        bail!(
            "{} is there already; a backup is never written over",
            file.display()
        );
    }
    Ok(())
}

fn print(file: &Path, size: u64, hash: Hash, inspected: &Inspected, config: &Config) {
    let Inspected {
        head,
        waiting,
        checkpoint,
        keys,
        ..
    } = inspected;
    outln!("file        {}", file.display());
    outln!("size        {size} bytes");
    outln!("sha256      {hash}");
    outln!(
        "trail       {} events in epoch {}, {waiting} wait for their number",
        head.size,
        head.epoch
    );
    match checkpoint {
        Some(kept) => outln!(
            "checkpoint  over {} events, of {}",
            kept.size,
            kept.signed_at
        ),
        None => outln!("checkpoint  none yet"),
    }
    for key in keys {
        outln!(
            "needs key   {}-{}.key ({})",
            key.purpose.as_str(),
            key.id,
            key.state
        );
    }
    errln!(
        "the keys are not in it: keep a copy of {} elsewhere, or nobody can restore this",
        config.keys.dir.display()
    );
}

fn document(file: &Path, size: u64, hash: Hash, inspected: &Inspected) -> serde_json::Value {
    let Inspected {
        head,
        waiting,
        checkpoint,
        keys,
        ..
    } = inspected;
    json!({
        "file": file, "size": size, "sha256": hash,
        "trail": { "events": head.size, "unsequenced": waiting, "epoch": head.epoch },
        "checkpoint": checkpoint.as_ref().map(|kept| json!({
            "epoch": kept.epoch, "size": kept.size, "signed_at": kept.signed_at,
        })),
        "keys": keys.iter().map(|key| json!({
            "id": key.id, "purpose": key.purpose.as_str(), "state": key.state,
        })).collect::<Vec<_>>(),
    })
}
