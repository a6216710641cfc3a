//! Mails leave: claim, compose, send, settle.
//!
//! Each mail is claimed in a committed transaction before a byte is sent, looked at once more before the write that
//! carries DATA, and settled after the relay's last word. No transaction is open while SMTP runs. A session goes on to the
//! next mail while the last one's settlement waits for its commit; never more than two batches are claimed and unsettled.

mod compose;
mod line;

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use uuid::Uuid;

use self::line::{InLine, Line};
use super::verdict::{class_of, judged, phase_of};
use super::{PAUSE, REST, failed};
use crate::domain::delivery::{Answer, Attempt, MessageKind};
use crate::domain::id::MessageId;
use crate::domain::locale::Locale;
use crate::flow::claim::{Job, claim, release};
use crate::flow::gate::Gate;
use crate::flow::settle::{self, settle};
use crate::flow::space::Need;
use crate::flow::start::Start;
use crate::flow::{Error, Flows};
use crate::message::{Composed, Composer, Proof};
use crate::smtp::{Outgoing, Relay, Verdict};
use crate::store;
use crate::telemetry::logs::field;

/// What delivery is told by configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mails claimed at once.
    pub batch: usize,
    /// Mails sent at once.
    pub sessions: usize,
    /// How often the queue is looked at without a ring.
    pub poll: Duration,
    /// Requests that wait at a gate.
    pub waiting: usize,
}

/// The role that sends mails.
pub struct Deliver {
    flows: Arc<Flows>,
    relay: Relay,
    settings: Settings,
    results: Gate<settle::Result, settle::Outcome>,
    returns: Gate<(MessageId, Uuid), ()>,
    composer: RwLock<Arc<Composer>>,
    slots: Arc<Semaphore>,
    line: Line,
    alarm: AtomicBool,
}

/// Mails that are about to start, for each session.
const AHEAD: usize = 16;
/// Mails composed at a time: the first ones leave while the others are made.
const COMPOSED: usize = 16;

/// A mail with its proof, or why it cannot be made.
type Made = Result<(Composed, Proof), String>;

/// What was known when the relay was asked to take DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// It never came to that.
    Not,
    /// The database could not say: nothing may be sent, nothing may be settled.
    Failed,
    /// It could.
    Said,
}

impl Deliver {
    /// Puts the role together and keeps the templates in force, so that every mail can be made again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn new(
        flows: Arc<Flows>,
        relay: Relay,
        composer: Arc<Composer>,
        settings: Settings,
    ) -> Result<Self, store::Error> {
        let deliver = Self {
            results: Gate::open(flows.clone(), settings.waiting, Need::CannotWait, settle),
            returns: Gate::open(flows.clone(), settings.waiting, Need::CannotWait, release),
            composer: RwLock::new(composer.clone()),
            slots: Arc::new(Semaphore::new(settings.sessions)),
            line: Line::new(AHEAD * settings.sessions),
            alarm: AtomicBool::new(false),
            relay,
            settings,
            flows,
        };
        deliver.set_composer(composer).await?;
        Ok(deliver)
    }

    /// Puts other templates in force.
    ///
    /// # Errors
    /// When the database refuses to keep them; then the old ones stay.
    pub async fn set_composer(&self, composer: Arc<Composer>) -> Result<(), store::Error> {
        let mut tx = self.flows.pool.begin().await?;
        tx.keep_templates(&composer.sources(), self.flows.clock.now())
            .await?;
        tx.commit().await?;
        *self
            .composer
            .write()
            .unwrap_or_else(PoisonError::into_inner) = composer;
        Ok(())
    }

    fn composer(&self) -> Arc<Composer> {
        self.composer
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Claims what is due and sees it to its end; returns how many mails were dealt with.
    ///
    /// # Errors
    /// When the database refuses the claim; then nothing was sent.
    pub async fn step(self: &Arc<Self>) -> Result<usize, store::Error> {
        let mut sending = JoinSet::new();
        let dealt = self.begin(&mut sending).await?;
        while sending.join_next().await.is_some() {}
        Ok(dealt)
    }

    /// Says goodbye to the relay on connections that are not in use.
    pub async fn rest(&self) {
        self.relay.close().await;
    }

    /// Sends mails until `soft`, then finishes those that were begun and frees the others.
    pub async fn run(self: Arc<Self>, soft: impl Future<Output = ()>) {
        let stopping = Notify::new();
        let stop = async {
            soft.await;
            // Whoever waits for a session waits in vain from here on, even while a batch is being claimed.
            self.slots.close();
            stopping.notify_one();
        };
        tokio::join!(stop, self.work(&stopping));
        self.rest().await;
    }

    async fn work(self: &Arc<Self>, stopping: &Notify) {
        let mut sending = JoinSet::new();
        let mut beat = tokio::time::interval(self.flows.settings.short_lease() / 4);
        loop {
            while sending.try_join_next().is_some() {}
            // The next batch is claimed while the last one is sent.
            let wait = match sending.len() > self.settings.batch {
                true => Duration::MAX,
                false => match self.begin(&mut sending).await {
                    Ok(dealt) if dealt < self.settings.batch => self.settings.poll,
                    Ok(_) => Duration::ZERO,
                    Err(error) => {
                        failed(&self.flows, "deliver", &error);
                        REST
                    }
                },
            };
            tokio::select! {
                biased;
                () = stopping.notified() => break,
                _ = beat.tick() => self.keep_leases().await,
                Some(_) = sending.join_next(), if wait == Duration::MAX => {}
                () = tokio::time::sleep(wait) => {}
                () = self.rung(), if wait == self.settings.poll => {}
            }
        }
        loop {
            tokio::select! {
                ended = sending.join_next() => match ended {
                    Some(_) => {}
                    None => break,
                },
                _ = beat.tick() => self.keep_leases().await,
            }
        }
    }

    /// Waits until mails were queued, and lets a few come together.
    async fn rung(&self) {
        tokio::time::sleep(PAUSE).await;
        self.flows.mail_waits.notified().await;
    }

    async fn keep_leases(&self) {
        if let Err(error) = self.line.keep(&self.flows).await {
            failed(&self.flows, "deliver", &error);
        }
    }

    /// Claims a batch and begins to send it.
    async fn begin(self: &Arc<Self>, sending: &mut JoinSet<()>) -> Result<usize, store::Error> {
        // What cannot be settled is sent a second time: nothing more leaves until there is room.
        if self.flows.space.is_low() {
            return Ok(0);
        }
        let composer = self.composer();
        let hash = {
            let composer = composer.clone();
            move |kind: MessageKind, locale: &Locale| composer.hash(kind, locale)
        };
        let limit = i64::try_from(self.settings.batch).unwrap_or(i64::MAX);
        let claimed = claim(&self.flows, limit, &hash).await?;
        let dealt = claimed.jobs.len() + claimed.ended.len();
        let mut jobs = claimed.jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let part: Vec<Job> = jobs.by_ref().take(COMPOSED).collect();
            let made = self.compose(&composer, part).await.into_iter();
            // All stand in line before the first one starts, so that one look sees them together.
            let line: Vec<_> = made
                .map(|(job, made)| {
                    let mail = self.line.join(Start {
                        message: job.message.clone(),
                        claim: job.claim,
                    });
                    (job, made, mail)
                })
                .collect();
            for (job, made, mail) in line {
                let deliver = self.clone();
                // Asked for here once: sessions take mails in the order of the line.
                let mut turn = Box::pin(self.slots.clone().acquire_owned());
                let now = poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await;
                sending.spawn(async move {
                    let slot = async {
                        match now {
                            Poll::Ready(slot) => slot,
                            Poll::Pending => turn.await,
                        }
                    };
                    deliver.one(&job, made, &mail, slot).await;
                    deliver.line.leave(&mail);
                });
            }
        }
        Ok(dealt)
    }

    /// Sends one claimed mail and settles it.
    async fn one(
        &self,
        job: &Job,
        made: Made,
        mail: &Arc<InLine>,
        slot: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) {
        let (composed, proof) = match made {
            Ok(made) => made,
            Err(why) => {
                tracing::error!({ field::MESSAGE } = %job.message.id, { field::ERROR } = %why, "a mail cannot be made");
                let answer = Answer {
                    phase: "compose".to_owned(),
                    cause: "defect".to_owned(),
                    ..Answer::default()
                };
                return self
                    .settle(job, Attempt::Deferred, Some(answer), None)
                    .await;
            }
        };
        let Ok(slot) = slot.await else {
            // Stopping: nothing was said to the relay, so another process may have it at once.
            return self.give_back(job).await;
        };
        let outgoing = Outgoing {
            from: &composed.envelope_from,
            to: &composed.envelope_to,
            bytes: &composed.bytes,
        };
        let looked = Mutex::new(Looked::Not);
        let verdict = self
            .relay
            .send(outgoing, || async {
                let (go, said) = match self.line.look(&self.flows, mail).await {
                    Ok(go) => (go, Looked::Said),
                    Err(error) => {
                        failed(&self.flows, "deliver", &error);
                        (false, Looked::Failed)
                    }
                };
                *looked.lock().unwrap_or_else(PoisonError::into_inner) = said;
                if go {
                    self.line.leave(mail);
                }
                go
            })
            .await;
        drop(slot);
        let looked = looked.into_inner().unwrap_or_else(PoisonError::into_inner);
        if verdict == Verdict::Stopped && looked == Looked::Failed {
            return self.give_back(job).await;
        }
        self.sound_alarm(&verdict);
        let (attempt, answer) = judged(verdict);
        if let Some(answer) = &answer
            && attempt != Attempt::Sent
        {
            self.flows
                .metrics
                .smtp_failure(phase_of(verdict), class_of(verdict));
            tracing::debug!({ field::MESSAGE } = %job.message.id, { field::PHASE } = answer.phase, { field::CLASS } = answer.cause, "attempt failed");
        }
        self.settle(job, attempt, answer, Some(proof)).await;
    }

    async fn settle(
        &self,
        job: &Job,
        attempt: Attempt,
        answer: Option<Answer>,
        proof: Option<Proof>,
    ) {
        let result = settle::Result {
            message: job.message.clone(),
            claim: job.claim,
            attempt,
            answer,
            proof: proof.map(Box::new),
            expires: job.expires,
        };
        // What was said to the relay cannot be unsaid: try to write it down for as long as the claim lasts.
        let patience = self.flows.settings.after_data + self.flows.settings.lease_margin;
        let end = tokio::time::Instant::now() + patience;
        loop {
            match self.results.pass(result.clone()).await {
                Ok(settle::Outcome::Settled(_)) => return,
                Ok(settle::Outcome::TooLate) => {
                    tracing::warn!({ field::MESSAGE } = %job.message.id, ?attempt, "late result: the claim had ended");
                    return;
                }
                Err(Error::Store(error)) if error.is_fatal() => return,
                Err(_) if tokio::time::Instant::now() < end => tokio::time::sleep(REST).await,
                Err(_) => return,
            }
        }
    }

    async fn give_back(&self, job: &Job) {
        // When that fails, its lease ends by itself; the gate has said so.
        let _ = self.returns.pass((job.message.id, job.claim)).await;
    }

    /// Says once that the relay itself refuses to work, and once that it works again.
    fn sound_alarm(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Misconfigured { phase, cause } => {
                self.flows.metrics.relay_alarm(true);
                if !self.alarm.swap(true, Ordering::Relaxed) {
                    tracing::error!({ field::PHASE } = %phase, { field::REASON } = %cause, "the relay refuses to work for us: check [smtp]; mails wait, none is given up for it");
                }
            }
            Verdict::Sent { .. } if self.alarm.swap(false, Ordering::Relaxed) => {
                self.flows.metrics.relay_alarm(false);
                tracing::info!("the relay works again");
            }
            _ => {}
        }
    }
}
