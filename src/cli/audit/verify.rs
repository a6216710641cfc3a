//! `confirmd audit verify`: reads everything, and says what is wrong first.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;

use super::super::{Exit, Format, Source, open};
use super::prove::trusted;
use crate::flow::audit::report::{At, Checks, Finding, Report};
use crate::flow::audit::{Progress, Subject, file, verify};
use crate::flow::record::{self, verify::Broken, verify::Verified};
use crate::trail::note::{Checkpoint, Verifier};

/// Findings that are printed beside the first.
const PRINTED: usize = 20;

/// What to verify, and against what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begins after this many events, over which a checkpoint must be kept; state tables are compared whole
    #[arg(long, value_name = "SIZE", conflicts_with = "file")]
    since: Option<u64>,
    /// Verifies an export instead of the database; needs --key, and no configuration
    #[arg(long, value_name = "EXPORT", requires = "key")]
    file: Option<PathBuf>,
    /// Verifies a consent record instead of the database; needs --key, and no configuration
    #[arg(long, value_name = "RECORD", requires = "key", conflicts_with_all = ["file", "since", "copy"])]
    record: Option<PathBuf>,
    /// Public keys that may have signed; default: those of the key files in keys.dir
    #[arg(long, value_name = "VKEY", num_args = 1..)]
    key: Vec<Verifier>,
    /// The folder of outside copies; default: trail.copy
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    copy: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub async fn run(args: Args, source: &Source) -> anyhow::Result<Exit> {
    if let Some(path) = &args.record {
        return consent_record(path, &args);
    }
    let mut shown = Shown::default();
    let report = match &args.file {
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            file::verify(BufReader::new(file), &args.key, &mut |p| shown.show(p))
                .with_context(|| path.display().to_string())?
        }
        None => database(&args, source, &mut shown).await?,
    };
    shown.clear();
    print_report(&report, args.format);
    Ok(match report.first() {
        Some(_) => Exit::No,
        None => Exit::Done,
    })
}

/// Says what holds of a consent record, or which part of it does not. Of what is pending nothing was signed: whoever wrote
/// the file may have made it up.
fn consent_record(path: &Path, args: &Args) -> anyhow::Result<Exit> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(name)?;
    let open = |note: &str| {
        let opened = Checkpoint::open(note, &args.key).map_err(|error| error.to_string())?;
        Ok((opened.size, opened.root))
    };
    let records = match record::verify::verify(&text, open) {
        Ok(records) => records,
        Err(none @ Broken { record: None, .. }) => {
            return Err(none).with_context(|| format!("{}: no consent record", name()));
        }
        Err(broken) => {
            match args.format {
                Format::Json => {
                    outln!("{}", json!({ "intact": false, "what": broken.to_string() }))
                }
                Format::Text => outln!("broken: {broken}"),
            }
            return Ok(Exit::No);
        }
    };
    let pending: usize = records.iter().map(|told| told.pending).sum();
    match args.format {
        Format::Json => {
            let records: Vec<_> = records.iter().map(told_record).collect();
            outln!("{}", json!({ "intact": pending == 0, "records": records }));
        }
        Format::Text => records.iter().enumerate().for_each(print_record),
    }
    if pending > 0 {
        let events: usize = records.iter().map(|told| told.events).sum();
        bail!(
            "{pending} of {events} events are under no checkpoint of these keys yet, so nobody has signed them; have the record handed out again in a minute"
        );
    }
    Ok(Exit::Done)
}

fn told_record(told: &Verified) -> serde_json::Value {
    json!({
        "list": told.list, "events": told.events, "pending": told.pending, "checkpoint": told.checkpoint,
        "mails": told.mails,
    })
}

fn print_record((i, told): (usize, &Verified)) {
    let verdict = match (told.pending, told.checkpoint) {
        (0, Some(size)) => format!(
            "intact: {} events under a checkpoint over {size} events",
            told.events
        ),
        _ => format!(
            "not proven: {} of {} events pending",
            told.pending, told.events
        ),
    };
    outln!(
        "record {}: {verdict}, {} mails made again",
        i + 1,
        told.mails
    );
}

async fn database(args: &Args, source: &Source, shown: &mut Shown) -> anyhow::Result<Report> {
    let config = source.load()?;
    let pool = open::pool(&config).await?;
    if pool.read().await?.keyring().await?.is_empty() {
        bail!(open::UNKNOWN);
    }
    let origin = open::origin(&pool, &config).await?;
    let trusted = trusted(&pool, &config, &args.key).await?;
    if let Some(dir) = args.copy.as_ref().filter(|dir| !dir.is_dir()) {
        bail!("--copy {}: no such folder", dir.display());
    }
    let subject = Subject {
        pool: &pool,
        origin: &origin,
        trusted: &trusted,
        copy: args.copy.as_deref().or(config.trail.copy.as_deref()),
    };
    let report = verify(&subject, Checks::default(), args.since, &mut |p| {
        shown.show(p)
    })
    .await;
    shown.clear();
    Ok(report?)
}

/// Prints what verification found.
pub fn print_report(report: &Report, format: Format) {
    match format {
        Format::Json => outln!("{}", document(report)),
        Format::Text => print(report),
    }
}

/// Shows on a terminal how far it is.
#[derive(Default)]
pub struct Shown(bool);

impl Shown {
    /// Shows it in the place of what was shown before.
    pub fn show(&mut self, Progress { what, done, of }: Progress) {
        let mut err = io::stderr();
        if err.is_terminal() {
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            // Whoever closed the terminal does not miss it.
            let _ = write!(err, "\r\x1b[K{done}{of} {what}");
            self.0 = true;
        }
    }

    /// Leaves the line empty.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.0) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn print(report: &Report) {
    match report.first() {
        Some(first) => broken(first, report),
        None => {
            let Report {
                events,
                checkpoints,
                signed,
                outside,
                subscribers,
                ..
            } = report;
            outln!(
                "intact: {events} events, {checkpoints} checkpoints up to event {signed}, {outside} outside copies, {subscribers} subscribers as their events left them"
            );
        }
    }
    for note in &report.notes {
        outln!("note: {note}");
    }
}

fn broken(first: &Finding, report: &Report) {
    outln!("broken: {}", told(first));
    outln!("  do: {}", report.remedy(first));
    let others = report.findings.iter().skip(1);
    let printed: Vec<_> = others.take(PRINTED).collect();
    for other in &printed {
        outln!("also: {}", told(other));
    }
    let more = report.wrong - 1 - printed.len() as u64;
    if more > 0 {
        outln!("also: {more} more");
    }
}

fn told(Finding { check, at, what }: &Finding) -> String {
    format!("{at}: {what} ({})", check.as_str())
}

fn document(report: &Report) -> serde_json::Value {
    let finding = |finding: &Finding| {
        let (from, to) = match finding.at {
            At::Event(seq) => (Some(seq), Some(seq)),
            At::Between(from, to) => (Some(from), Some(to)),
            At::Waiting | At::Nothing => (None, None),
        };
        json!({ "check": finding.check.as_str(), "from": from, "to": to, "at": finding.at.to_string(),
            "what": finding.what, "do": report.remedy(finding) })
    };
    json!({
        "intact": report.first().is_none(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "wrong": report.wrong, "events": report.events, "checkpoints": report.checkpoints,
        "signed": report.signed, "outside": report.outside, "subscribers": report.subscribers,
        "notes": report.notes,
    })
}
