//! Processes wake each other: one that queues a mail and sends none tells those who do.
//!
//! What this process works on itself it tells nobody. Notices can be missed and never say what to do: whoever works looks
//! by itself after a while.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use super::{PAUSE, REST, failed};
use crate::clock::random;
use crate::flow::Flows;
use crate::store::Error;
use crate::store::wake::{Bell, Waits};

/// Wakes and is woken until `soft`; `here` is what this process works on.
pub async fn run(flows: Arc<Flows>, here: Waits, soft: impl Future<Output = ()>) {
    let repeat = async {
        loop {
            let Err(error) = watch(&flows, here).await;
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
async fn watch(flows: &Flows, here: Waits) -> Result<Infallible, Error> {
    let name = u128::from_ne_bytes(random()).to_string();
    let Some(mut bell) = Bell::hang(&flows.pool, name).await? else {
        return pending().await;
    };
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
