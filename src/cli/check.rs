//! `confirmd check`: is everything in order? One line a check, nothing changed.

use std::path::Path;

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Exit, Format, open, serve, settings};
use crate::config::{Config, DatabaseUrl, MAIN};
use crate::flow::{keyring, register};
use crate::smtp::{Relay, trusting};
use crate::store::connect::{ConnectError, durability};
use crate::store::disk::Disk;

/// What to look at, and how to print.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Leaves out the relay, which then need not be reachable
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
        relays(&mut report, config).await;
    }
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
    report.line(
        "lists",
        registered
            .map(|changes| {
                let changes = changes.iter().map(|change| {
                    let (list, count) = (&change.list, change.subscriptions);
                    format!(
                        "; the material change of {list} makes {count} subscriptions ineligible"
                    )
                });
                format!("may come into force{}", changes.collect::<String>())
            })
            .map_err(|error| error.to_string()),
    );
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

async fn relays(report: &mut Report, config: &Config) {
    for relay in settings::relays(config) {
        let (host, port) = (relay.smtp.host.clone(), relay.smtp.port);
        let section = match relay.name.as_str() {
            MAIN => MAIN.to_owned(),
            name => format!("relays.{name}"),
        };
        let verdict = match Relay::new(relay.smtp) {
            Err(error) => Err(error.to_string()),
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
