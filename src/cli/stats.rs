//! `confirmd stats`: how much there is, and what waits.

use clap::Args;
use serde_json::json;

use super::{Exit, Format, open};
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::restore::Interval;
use crate::store::COUNTED;

/// How to print.
#[derive(Debug, Args)]
pub struct Stats {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub async fn run(args: Stats, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    let mut tx = pool.read().await?;
    let (events, unsequenced) = tx.trail_length().await?;
    let epoch = tx.trail_head().await?.epoch;
    let checkpoint = tx.last_checkpoint().await?;
    let depth = tx.queue_depth().await?;
    let windows = tx.open_windows().await?;
    drop(tx);
    let now = Clock::System.now();
    let age = |at| now.since(at).as_secs();
    match args.format {
        Format::Json => outln!(
            "{}",
            json!({
                "trail": { "events": events, "unsequenced": unsequenced, "epoch": epoch },
                "checkpoint": checkpoint.map(|kept| json!({
                    "size": kept.size, "signed_at": kept.signed_at, "age_seconds": age(kept.signed_at),
                })),
                "restored": Interval::of(&windows).map(|window| window.to_string()),
                "mails": {
                    "queued": depth.queued, "claimed": depth.claimed, "quarantined": depth.quarantined,
                    "oldest_due_at": depth.oldest,
                },
            })
        ),
        Format::Text => {
            outln!(
                "trail       {events} events in epoch {epoch}, {} wait for their number",
                counted(unsequenced)
            );
            match checkpoint {
                Some(kept) => outln!(
                    "checkpoint  over {} events, {} seconds old",
                    kept.size,
                    age(kept.signed_at)
                ),
                None => outln!("checkpoint  none yet"),
            }
            let since = depth
                .oldest
                .map(|at| format!(", the oldest due since {at}"));
            let since = since.unwrap_or_default();
            let (queued, claimed) = (counted(depth.queued), counted(depth.claimed));
            outln!("mails       {queued} queued, {claimed} being sent{since}");
            if depth.quarantined > 0 {
                let aside = counted(depth.quarantined);
                outln!("            {aside} set aside: see `confirmd message list`");
            }
            open::tell_window(&pool).await?;
        }
    }
    Ok(Exit::Done)
}

fn counted(rows: i64) -> String {
    let more = if rows < COUNTED { "" } else { " or more" };
    format!("{rows}{more}")
}
