//! `confirmd subscriber`: what is known of an address.

use std::sync::Arc;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Exit, Format, open, serve};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::address::Address;
use crate::domain::list::{ListId, SenderId};
use crate::domain::locale::Locale;
use crate::flow::erase::{Erased, erase};
use crate::flow::record::{Installation, hand_out};
use crate::flow::show::{Known, show};
use crate::http::render_record;
use crate::store::Pool;

/// What to do with a subscriber.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints everything that is stored about an address at a sender
    Show {
        /// The address
        address: String,
        /// At which sender; needed where there are several
        #[arg(long)]
        sender: Option<SenderId>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Prints the consent record of an address: the proof of who agreed to what, when, how and in which words
    ///
    /// That it was handed out is itself recorded.
    Proof {
        /// The address
        address: String,
        /// At which sender; needed where there are several
        #[arg(long)]
        sender: Option<SenderId>,
        /// For this list alone
        #[arg(long)]
        list: Option<ListId>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: RecordFormat,
        /// The language of the page, if not that of the consent
        #[arg(long)]
        locale: Option<Locale>,
    },
    /// Erases addresses at a sender; old unsubscribe links go on working, by keyed hash. On SQLite the file is written
    /// anew, once for all of them, during which signups wait
    Erase {
        /// The addresses
        #[arg(required = true)]
        addresses: Vec<String>,
        /// At which sender; needed where there are several
        #[arg(long)]
        sender: Option<SenderId>,
        /// Also destroys the proof of consent: nobody can show later that the mails were wanted
        #[arg(long, required = true)]
        destroy_proof: bool,
    },
}

/// How a consent record is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// As a file that anybody can check
    #[default]
    Json,
    /// As a page to be read and printed
    Html,
}

/// Runs the command.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    let sender = match &command {
        Command::Show { sender, .. }
        | Command::Proof { sender, .. }
        | Command::Erase { sender, .. } => sender,
    };
    let sender = &open::sender(config, sender.as_ref())?.id;
    let pool = open::pool(config).await?;
    let keys = open::keys(&pool, config).await?;
    let mut exit = Exit::Done;
    match command {
        Command::Show {
            address, format, ..
        } => match show(&pool, &keys, sender, &read(&address)?).await? {
            Some(known) if format == Format::Json => outln!("{}", document(&known)),
            Some(known) => print(&known),
            None => exit = unknown(sender),
        },
        Command::Proof {
            address,
            list,
            format,
            locale,
            ..
        } => {
            let templates = serve::templates(config)?;
            let installation = Installation {
                public_url: config.server.public_url.clone(),
                trail: open::origin(&pool, config).await?,
                keys: Arc::new(keys),
            };
            let (address, now) = (read(&address)?, Clock::System.now());
            let records = hand_out(&pool, sender, &address, list.as_ref(), &installation, now);
            match (records.await?, format) {
                (Some(records), RecordFormat::Json) => {
                    outln!("{}", serde_json::to_string_pretty(&records)?);
                }
                (Some(records), RecordFormat::Html) => {
                    let page = render_record(&templates, &records, locale.as_ref(), now);
                    outln!("{}", page.map_err(anyhow::Error::msg)?);
                }
                (None, _) => match list {
                    Some(list) => {
                        errln!("nothing is known of this address at {sender} for a list {list}");
                        exit = Exit::No;
                    }
                    None => exit = unknown(sender),
                },
            }
        }
        Command::Erase { addresses, .. } => {
            // All are read before the first is erased.
            let addresses: Vec<_> = addresses
                .iter()
                .map(|a| read(a))
                .collect::<Result<_, _>>()?;
            for (n, address) in (1..).zip(&addresses) {
                match erase(&pool, &keys, sender, address, Clock::System.now()).await {
                    Ok(Some(erased)) => report(&erased),
                    Ok(None) => exit = exit.max(unknown(sender)),
                    // The file is written anew for those that were erased.
                    Err(error) => {
                        errln!("confirmd: address {n} was not erased: {error}; erase it again");
                        exit = Exit::Unusable;
                    }
                }
            }
            // Also where nothing was known: the time before may have failed here.
            scrub(&pool).await;
        }
    }
    Ok(exit)
}

fn read(address: &str) -> anyhow::Result<Address> {
    Address::parse(address).context("the address")
}

fn unknown(sender: &SenderId) -> Exit {
    errln!("nothing is known of this address at {sender}");
    Exit::No
}

async fn scrub(pool: &Pool) {
    match pool.scrub().await {
        Ok(true) => {}
        Ok(false) => errln!(
            "the write-ahead log is being read: a running confirmd empties it as soon as it can, and logs that; if none runs, erase again"
        ),
        Err(error) => errln!(
            "the file could not be written anew ({error}): traces may be left in it; erase again, or stop confirmd and run it then"
        ),
    }
    outln!("backups, replicas and logs of the database keep what they hold: see deploy/erasure.md");
}

fn report(erased: &Erased) {
    outln!(
        "erased {} with {} parts of evidence; the events stay, and say nothing personal",
        erased.subscriber,
        erased.parts
    );
    outln!(
        "kept: a keyed hash for each of {} subscriptions, so that old unsubscribe links work",
        erased.tombstones
    );
    if let Some(until) = erased.held_until {
        outln!("kept: a keyed hash that holds confirmation mails until {until}");
    }
}

fn print(known: &Known) {
    let now = Clock::System.now();
    let person = &known.subscriber;
    outln!(
        "{}  at {}  ({})",
        person.email,
        person.sender,
        person.locale
    );
    outln!(
        "subscriber {}, known since {}",
        person.id,
        person.created_at
    );
    match known.ledger.held_until(&person.sender, now) {
        Some(until) => outln!("confirmation mails are held until {until}"),
        None => outln!("confirmation mails are not held"),
    }
    outln!("\nsubscriptions");
    if known.subscriptions.is_empty() {
        outln!("  none");
    }
    for (s, eligible) in &known.subscriptions {
        let may = match eligible {
            Ok(()) => "may be mailed".to_owned(),
            Err(why) => format!("may not be mailed: {}", why.as_str()),
        };
        outln!(
            "  {}  {} since {}  ({}, revision {})  {may}",
            s.list,
            s.state.as_str(),
            s.since,
            s.basis,
            s.revision
        );
    }
    outln!("\nsignups");
    for (signup, lists) in &known.signups {
        let end = signup.expires_at.map(|at| format!(", link until {at}"));
        outln!(
            "  {}  {}  {}{}",
            signup.created_at,
            signup.id,
            signup.state.as_str(),
            end.unwrap_or_default()
        );
        outln!("    from {}", signup.consent.source);
        for list in lists {
            let how = list.reason.map(|how| format!(" ({})", how.as_str()));
            outln!(
                "    {}  {}{}",
                list.list,
                list.state.as_str(),
                how.unwrap_or_default()
            );
        }
    }
    outln!("\nmails");
    if known.messages.is_empty() {
        outln!("  none");
    }
    for m in &known.messages {
        let answer = m.outcome.as_ref().map(|answer| {
            let code = answer
                .code
                .map(|code| format!(" {code}"))
                .unwrap_or_default();
            let enhanced = answer.enhanced.as_deref().unwrap_or_default();
            format!(", last: {} {}{code} {enhanced}", answer.phase, answer.cause)
        });
        outln!(
            "  {}  {}  {}  {} after {} attempts{}",
            m.created_at,
            m.id,
            m.kind.as_str(),
            m.state.as_str(),
            m.attempts,
            answer.unwrap_or_default()
        );
    }
    outln!("\nevents");
    for event in &known.events {
        let list = event.list.as_ref().map(|list| format!(" {list}"));
        outln!(
            "  {:>8}  {}  {}{}",
            event.seq,
            event.time,
            event.kind.as_str(),
            list.unwrap_or_default()
        );
    }
}

fn document(known: &Known) -> serde_json::Value {
    let person = &known.subscriber;
    json!({
        "id": person.id,
        "sender": person.sender,
        "email": person.email,
        "locale": person.locale,
        "created_at": person.created_at,
        "held_until": known.ledger.held_until(&person.sender, Clock::System.now()),
        "subscriptions": known.subscriptions.iter().map(|(s, eligible)| json!({
            "list": s.list, "state": s.state, "eligible": eligible.is_ok(),
            "reason": eligible.err().map(|why| why.as_str()), "basis": s.basis, "since": s.since,
            "revision": s.revision, "locale": s.locale, "signup": s.signup,
        })).collect::<Vec<_>>(),
        "signups": known.signups.iter().map(|(signup, lists)| json!({
            "id": signup.id, "state": signup.state, "created_at": signup.created_at,
            "expires_at": signup.expires_at, "locale": signup.locale, "consent": signup.consent,
            "ref": signup.reference, "attributes": signup.attributes,
            "lists": lists.iter().map(|l| json!({
                "list": l.list, "state": l.state, "how": l.reason, "decided_at": l.decided_at,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "messages": known.messages.iter().map(|m| json!({
            "id": m.id, "kind": m.kind, "state": m.state, "created_at": m.created_at,
            "attempts": m.attempts, "due_at": m.due_at, "answer": m.outcome,
        })).collect::<Vec<_>>(),
        "events": known.events,
    })
}
