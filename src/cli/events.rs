//! `confirmd events`: the trail, in the order of its numbers.

use std::io::{self, Write};
use std::time::Duration;

use clap::Subcommand;

use super::{Exit, Format, open, out};
use crate::config::Config;
use crate::domain::event::Sequenced;
use crate::domain::list::SenderId;
use crate::flow::export::Export;
use crate::store::Pool;

/// How often `--follow` looks for new events.
const POLL: Duration = Duration::from_millis(500);
/// Events that one read takes.
const PAGE: i64 = 1000;

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints events, one a line
    Tail {
        /// Goes on printing new events until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Begins after this number; 0 is the beginning. Default: the last ten
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Writes the trail for others to check, as `confirmd audit verify --file` does: events and checkpoints, one a line
    ///
    /// A copy elsewhere is what `confirmd restore --replay` needs to know who left since a backup.
    Export {
        /// Goes on writing as things happen, until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Goes on after this number, the last of the file that is appended to
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// Shows of other senders' events no more than their hashes
        #[arg(long)]
        sender: Option<SenderId>,
    },
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    match command {
        Command::Tail {
            follow,
            after,
            format,
        } => tail(&pool, follow, after, format).await,
        Command::Export {
            follow,
            after,
            sender,
        } => {
            let sender = match sender {
                Some(name) => Some(open::sender(config, Some(&name))?.id.clone()),
                None => None,
            };
            export(&pool, follow, after, sender).await
        }
    }
}

async fn export(
    pool: &Pool,
    follow: bool,
    after: u64,
    sender: Option<SenderId>,
) -> anyhow::Result<Exit> {
    let mut export = Export::begin(pool, after, sender).await??;
    let mut out = io::BufWriter::new(io::stdout());
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let lines = export.page().await?;
        if lines.is_empty() {
            out.flush()?;
            if !follow {
                return Ok(Exit::Done);
            }
            tokio::select! {
                _ = &mut interrupted => return Ok(Exit::Done),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        for line in lines {
            // A file that lacks its end must not look whole: the next export begins where this one broke off.
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
    }
}

async fn tail(
    pool: &Pool,
    follow: bool,
    after: Option<i64>,
    format: Format,
) -> anyhow::Result<Exit> {
    let (length, _) = pool.read().await?.trail_length().await?;
    let mut seen = after.unwrap_or((length - 10).max(0));
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let events = pool.read().await?.events_after(seen, PAGE, None).await?;
        for event in &events {
            let line = match format {
                Format::Json => serde_json::to_string(event)?,
                Format::Text => readable(event),
            };
            outln!("{line}");
            if out::is_closed() {
                return Ok(Exit::Done);
            }
            seen = event.seq;
        }
        if !events.is_empty() {
            continue;
        }
        if !follow {
            return Ok(Exit::Done);
        }
        tokio::select! {
            _ = &mut interrupted => return Ok(Exit::Done),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

fn readable(event: &Sequenced) -> String {
    let mut line = format!(
        "{:>8}  {}  {:<26}",
        event.seq,
        event.time,
        event.kind.as_str()
    );
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    };
    add("sender", event.sender.as_ref().map(ToString::to_string));
    add("list", event.list.as_ref().map(ToString::to_string));
    add("signup", event.signup.map(|id| id.to_string()));
    add("subscriber", event.subscriber.map(|id| id.to_string()));
    add("message", event.message.map(|id| id.to_string()));
    for (name, value) in &event.data {
        add(name, Some(value.to_string()));
    }
    line
}
