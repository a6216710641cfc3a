//! Processes wake each other: one that queues a mail and sends none tells those who do.
//!
//! What this process works on itself it tells nobody. Notices can be missed and never say what to do: whoever works looks
//! by itself after a while.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use super::{PAUSE, REST, failed};
use crate::clock::random;
use crate::flow::Flows;
use crate::flow::keyring::open_existing;
use crate::store::Error;
use crate::store::wake::{Bell, Waits};

/// Wakes and is woken until `soft`; `here` is what this process works on, `keys` the folder of its keys.
pub async fn run(flows: Arc<Flows>, here: Waits, keys: PathBuf, soft: impl Future<Output = ()>) {
    let repeat = async {
        loop {
            let Err(error) = watch(&flows, here, &keys).await;
            failed(&flows, "wake", &error);
            sleep(REST).await;
        }
    };
    tokio::select! {
        () = soft => {}
        () = repeat => {}
    }
}

/// Rings on both sides until the database refuses.
async fn watch(flows: &Flows, here: Waits, keys: &Path) -> Result<Infallible, Error> {
    let name = u128::from_ne_bytes(random()).to_string();
    let Some(mut bell) = Bell::hang(&flows.pool, name).await? else {
        return pending().await;
    };
    bell.show(&flows.keys().ids()).await?;
    if flows.pool.is_shared() {
        take_keys(flows, keys).await;
    }
    // What was rung until now has been missed, on both sides.
    wake(flows, here);
    let mut waits = Waits {
        mails: !here.mails,
        events: !here.events,
    };
    let mut again = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = flows.mail_waits.notified(), if !here.mails && !waits.mails => waits.mails = true,
            () = flows.event_waits.notified(), if !here.events && !waits.events => waits.events = true,
            () = flows.keys_changed.notified() => bell.show(&flows.keys().ids()).await?,
            () = sleep_until(again), if waits.any() => {
                bell.ring(waits).await?;
                waits = Waits::default();
                again = Instant::now() + PAUSE;
            }
            heard = bell.hear() => {
                let heard = heard?;
                wake(flows, Waits {
                    mails: heard.mails && here.mails,
                    events: heard.events && here.events,
                });
            }
        }
    }
}

/// Takes the keys anew: one may have been activated while nobody saw that this process lacks it.
async fn take_keys(flows: &Flows, dir: &Path) {
    match open_existing(&flows.pool, dir).await {
        Ok(Some(keys)) => flows.set_keys(keys),
        Ok(None) => {}
        Err(error) => tracing::error!(error = %error, "the keys were not taken anew"),
    }
}

/// Wakes those who work here.
fn wake(flows: &Flows, waits: Waits) {
    if waits.mails {
        flows.mail_waits.notify_one();
    }
    if waits.events {
        flows.event_waits.notify_one();
    }
    if waits.any() {
        flows.written.notify_one();
    }
}
