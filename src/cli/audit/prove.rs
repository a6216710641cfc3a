//! `confirmd audit prove` and `consistency`: what somebody else can check by themselves.

use std::fmt::Display;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::super::{Exit, open};
use crate::config::Config;
use crate::domain::address::Address;
use crate::domain::consent::Hash;
use crate::domain::id::EventId;
use crate::domain::list::SenderId;
use crate::flow::audit::trusted::Trusted;
use crate::flow::prove::{Proven, grown, proven};
use crate::flow::show::show;
use crate::store::trail::Kept;
use crate::store::{Pool, Tx};
use crate::trail::note::Verifier;
use crate::trail::tree::leaf_hash;

/// Which event, or whose events.
#[derive(Debug, clap::Args)]
#[group(required = true, args = ["event", "subscriber"])]
pub struct Args {
    /// The number or the id of an event
    #[arg(value_name = "SEQ|EVENT-ID")]
    event: Option<String>,
    /// All numbered events of an address instead, one a line
    #[arg(long, value_name = "ADDRESS")]
    subscriber: Option<String>,
    /// At which sender; needed where there are several
    #[arg(long, requires = "subscriber")]
    sender: Option<SenderId>,
    /// Public keys that may have signed; default: those of the key files in keys.dir
    #[arg(long, value_name = "VKEY", num_args = 1..)]
    key: Vec<Verifier>,
}

/// Between which sizes.
#[derive(Debug, clap::Args)]
pub struct Sizes {
    /// The smaller number of events
    from: u64,
    /// The larger
    to: u64,
    /// Public keys that may have signed; default: those of the key files in keys.dir
    #[arg(long, value_name = "VKEY", num_args = 1..)]
    key: Vec<Verifier>,
}

/// Proves events.
pub async fn event(args: Args, config: &Config) -> anyhow::Result<Exit> {
    let pool = open::pool(config).await?;
    let trusted = trusted(&pool, config, &args.key).await?;
    let seqs = match (&args.event, &args.subscriber) {
        (Some(event), _) => number(&mut pool.read().await?, event)
            .await?
            .map(|seq| vec![seq]),
        (None, Some(address)) => events_of(&pool, config, address, args.sender.as_ref()).await?,
        (None, None) => None,
    };
    let Some(seqs) = seqs else {
        return Ok(Exit::No);
    };
    let mut exit = Exit::Done;
    for seq in seqs {
        match proven(&mut pool.snapshot().await?, seq, &trusted).await? {
            Ok(proven) => outln!("{}", document(&proven)),
            Err(why) => exit = no(why),
        }
    }
    Ok(exit)
}

/// Proves that the trail only grew.
pub async fn growth(sizes: Sizes, config: &Config) -> anyhow::Result<Exit> {
    let Sizes { from, to, key } = sizes;
    if from > to {
        bail!("the smaller size comes first: confirmd audit consistency {to} {from}");
    }
    let pool = open::pool(config).await?;
    let trusted = trusted(&pool, config, &key).await?;
    let mut tx = pool.snapshot().await?;
    let grown = match grown(&mut tx, (from, to), &trusted).await? {
        Ok(grown) => grown,
        Err(why) => return Ok(no(why)),
    };
    let end = |size: u64, (root, kept): &(Hash, Option<Kept>)| json!({ "size": size, "root": base64(root), "checkpoint": kept.as_ref().map(|kept| &kept.note) });
    let document = json!({
        "from": end(from, &grown.from), "to": end(to, &grown.to),
        "proof": grown.proof.iter().map(base64).collect::<Vec<_>>(),
    });
    outln!("{document}");
    Ok(Exit::Done)
}

/// Returns the keys that were given out, or those of the installation.
pub(super) async fn trusted(
    pool: &Pool,
    config: &Config,
    given: &[Verifier],
) -> anyhow::Result<Trusted> {
    Ok(match given {
        [] => open::trusted(pool, config)
            .await
            .context("without the key files, give the public keys with --key")?,
        given => Trusted::Given(given.to_vec()),
    })
}

async fn number(tx: &mut Tx, event: &str) -> anyhow::Result<Option<u64>> {
    if let Ok(seq) = event.parse() {
        return Ok(Some(seq));
    }
    let id: EventId = event
        .parse()
        .context("neither a number nor the id of an event")?;
    let seq = tx.number_of(id).await?;
    if seq.is_none() {
        errln!("there is no event {id} in the trail, or it has no number yet");
    }
    Ok(seq)
}

async fn events_of(
    pool: &Pool,
    config: &Config,
    address: &str,
    sender: Option<&SenderId>,
) -> anyhow::Result<Option<Vec<u64>>> {
    let sender = open::sender(config, sender)?;
    let address = Address::parse(address).context("the address")?;
    let keys = open::keys(pool, config).await?;
    let Some(known) = show(pool, &keys, &sender.id, &address).await? else {
        errln!("nothing is known of this address at {}", sender.id);
        return Ok(None);
    };
    let seqs = known.events.iter().map(|event| event.seq.unsigned_abs());
    Ok(Some(seqs.collect()))
}

fn document(proven: &Proven) -> Value {
    json!({
        "seq": proven.seq,
        "leaf": BASE64.encode(&proven.leaf),
        "leaf_hash": base64(&leaf_hash(&proven.leaf)),
        "proof": proven.proof.iter().map(base64).collect::<Vec<_>>(),
        "checkpoint": proven.checkpoint.note,
    })
}

fn base64(hash: &Hash) -> String {
    BASE64.encode(hash.0)
}

fn no(why: impl Display) -> Exit {
    errln!("{why}");
    Exit::No
}
