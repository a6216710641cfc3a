//! `confirmd check`: is everything in order? One line a check, nothing changed.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use rustix::fs::{Access, access};
use serde_json::json;

use super::{Exit, Format, open, serve, settings};
use crate::config::{Config, DatabaseUrl, MAIN, Trail};
use crate::flow::keyring;
use crate::flow::register::{self, Closing};
use crate::smtp::{Relay, trusting};
use crate::store::connect::{ConnectError, durability};
use crate::store::disk::{Disk, nearest};

/// What to look at, and how to print.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Leaves out what a service starts without: the relay, and the places to which checkpoints go
    #[arg(long)]
    offline: bool,
}

struct Report {
    format: Format,
    bad: usize,
}

impl Report {
    fn line(&mut self, what: &str, verdict: Result<String, String>) {
        let (ok, said) = match verdict {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        self.bad += usize::from(!ok);
        match self.format {
            Format::Json => outln!("{}", json!({ "check": what, "ok": ok, "detail": said })),
            Format::Text => outln!("{:<4} {what:<14} {said}", if ok { "ok" } else { "BAD" }),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<Exit> {
    let mut report = Report {
        format: args.format,
        bad: 0,
    };
    let lists = config.lists.len();
    let senders = config.senders.len();
    report.line(
        "configuration",
        Ok(format!("{senders} senders, {lists} lists")),
    );
    report.line(
        "templates",
        serve::templates(config)
            .map(|templates| {
                let languages: Vec<_> = templates.languages().map(|l| l.as_str()).collect();
                format!("in {}", languages.join(", "))
            })
            .map_err(|error| format!("{error:#}")),
    );
    if let Some(path) = &config.trail.ca_file {
        let told = trusting(Some(path)).map(|_| format!("{} can be used", path.display()));
        report.line("trail.ca_file", told.map_err(|error| error.to_string()));
    }
    if let DatabaseUrl::Sqlite { path } = &config.database.url {
        let told = disk(path, config.database.min_free);
        report.line("disk", told.map_err(|error| error.to_string()));
    }
    database(&mut report, config).await;
    if !args.offline {
        places(&mut report, &config.trail);
    }
    relays(&mut report, config, args.offline).await;
    Ok(match report.bad {
        0 => Exit::Done,
        _ => Exit::No,
    })
}

/// Looks at the disk under a SQLite file. That it is nearly full is no fault here: the service must start all the same, for
/// those who want to leave.
fn disk(path: &Path, floor: u64) -> Result<String, ConnectError> {
    let disk = Disk::under(path)?;
    disk.probe()?;
    let free = disk
        .free()
        .map_err(|error| ConnectError::file(path, &error))?;
    let [free, floor] = [free, floor].map(|bytes| bytes / 1_000_000);
    Ok(match free < floor {
        true => format!(
            "keeps what is written, but only {free} MB are free: with less than {floor} MB (database.min_free) signups are refused"
        ),
        false => format!("keeps what is written; {free} MB are free"),
    })
}

async fn database(report: &mut Report, config: &Config) {
    let pool = match open::pool(config).await {
        Ok(pool) => pool,
        Err(ConnectError::Absent(place)) => {
            let told = format!("not there yet: {place}; the first `confirmd serve` makes it");
            report.line("database", Ok(told));
            return report.line("keys", no_keys_yet(config));
        }
        // Before a start nothing is to be mended here: that start mends it.
        Err(error @ ConnectError::Older) => return report.line("database", Ok(error.to_string())),
        Err(ConnectError::Refused { error, .. }) if error.is_full() => {
            let told =
                "cannot be looked at on a full disk; `confirmd serve` makes room from its reserve";
            return report.line("database", Ok(told.to_owned()));
        }
        Err(error) => return report.line("database", Err(error.to_string())),
    };
    let settings = durability(&pool).await;
    let told = settings.map(|settings| {
        let told = settings
            .iter()
            .map(|(name, value)| format!("{name} {value}"));
        told.collect::<Vec<_>>().join(", ")
    });
    report.line("database", told.map_err(|error| error.to_string()));
    let keys = keyring::open_existing(&pool, &config.keys.dir).await;
    report.line(
        "keys",
        match keys {
            Ok(Some(_)) => Ok(format!(
                "all registered keys are in {}",
                config.keys.dir.display()
            )),
            Ok(None) => no_keys_yet(config),
            Err(error) => Err(error.to_string()),
        },
    );
    let origin = open::origin(&pool, config).await;
    let told = origin.map(|origin| format!("signed as {origin}"));
    report.line("trail", told.map_err(|error| error.to_string()));
    let registered = register::check(&pool, &config.catalog()).await;
    let told = registered.map(|effects| {
        let material = effects.material.iter().map(|change| {
            let (list, count) = (&change.list, change.subscriptions);
            format!("; the material change of {list} makes {count} subscriptions ineligible")
        });
        let closing = effects.closing.iter().map(|closing| {
            let Closing {
                list,
                subscriptions,
                signups,
            } = closing;
            format!("; closes {list} ({subscriptions} subscriptions, {signups} open signups)")
        });
        format!(
            "may come into force{}",
            material.chain(closing).collect::<String>()
        )
    });
    report.line("lists", told.map_err(|error| error.to_string()));
    pool.close().await;
}

/// Says that the first start makes the keys, unless there are some that belong to another database.
fn no_keys_yet(config: &Config) -> Result<String, String> {
    let told = "none yet; the first `confirmd serve` makes them";
    let refused = keyring::refuse_stray(&config.keys.dir);
    refused
        .map(|()| told.to_owned())
        .map_err(|error| error.to_string())
}

/// Looks at the places outside to which checkpoints go.
fn places(report: &mut Report, trail: &Trail) {
    if let Some(dir) = &trail.copy {
        let told = writable(dir).map(|()| format!("copies can be kept in {}", dir.display()));
        report.line("trail.copy", told);
    }
    for (key, words) in [
        ("trail.command", &trail.command),
        ("trail.stamp", &trail.stamp),
    ] {
        if let Some(program) = words.first() {
            report.line(key, executable(program));
        }
    }
}

/// Tells whether files can be made in a folder; one that is not there yet is made in the nearest one above it.
fn writable(dir: &Path) -> Result<(), String> {
    let there = nearest(dir);
    let cannot = |why: &dyn Display| format!("{} cannot be written: {why}", there.display());
    match there.is_dir() {
        true => access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| cannot(&error)),
        false => Err(cannot(&"it is no folder")),
    }
}

/// Finds a program as the operating system does.
fn executable(program: &str) -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = match program.contains('/') {
        true => vec![PathBuf::new()],
        false => std::env::split_paths(&path).collect(),
    };
    let mut files = folders.iter().map(|folder| folder.join(program));
    let found = files.find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok());
    match found {
        Some(file) => Ok(format!("{} can be run", file.display())),
        None => Err(format!("{program}: no program that this user may run")),
    }
}

async fn relays(report: &mut Report, config: &Config, offline: bool) {
    for relay in settings::relays(config) {
        let (host, port) = (relay.smtp.host.clone(), relay.smtp.port);
        let section = match relay.name.as_str() {
            MAIN => MAIN.to_owned(),
            name => format!("relays.{name}"),
        };
        let verdict = match Relay::new(relay.smtp) {
            Err(error) => Err(error.to_string()),
            Ok(_) if offline => continue,
            Ok(relay) => match relay.probe().await {
                Ok(probe) => Ok(format!(
                    "answers; TLS {}, AUTH {}, PIPELINING {}",
                    yes(probe.tls),
                    yes(probe.auth),
                    yes(probe.pipelining)
                )),
                Err((phase, cause)) => Err(format!(
                    "{host}:{port}: {cause} at {phase}; look at [{section}]"
                )),
            },
        };
        report.line(&section, verdict);
    }
}

fn yes(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}
