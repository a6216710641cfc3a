//! Mails leave: claim, compose, send, settle.
//!
//! Each mail is claimed in a committed transaction before a byte is sent, looked at once more before the write that
//! carries DATA, and settled after the relay's last word. No transaction is open while SMTP runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::verdict::{class_of, judged, phase_of};
use super::{REST, failed};
use crate::domain::delivery::{Answer, Attempt, MessageKind};
use crate::domain::id::MessageId;
use crate::domain::locale::Locale;
use crate::flow::claim::{Job, claim, release, renew};
use crate::flow::gate::Gate;
use crate::flow::settle::{self, settle};
use crate::flow::start::{Start, start};
use crate::flow::{Error, Flows};
use crate::message::{Composed, Composer, Letter, Proof};
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
    starts: Gate<Start, bool>,
    results: Gate<settle::Result, settle::Outcome>,
    composer: RwLock<Arc<Composer>>,
    slots: Semaphore,
    /// Claimed mails that have not come to DATA, whose leases must be kept alive.
    waiting: Mutex<BTreeMap<MessageId, Uuid>>,
    alarm: AtomicBool,
}

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
            starts: Gate::open(flows.clone(), settings.waiting, start),
            results: Gate::open(flows.clone(), settings.waiting, settle),
            composer: RwLock::new(composer.clone()),
            slots: Semaphore::new(settings.sessions),
            waiting: Mutex::default(),
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
        let dealt = self.begin(&mut sending, self.settings.batch).await?;
        while sending.join_next().await.is_some() {}
        Ok(dealt)
    }

    /// Says goodbye to the relay on connections that are not in use.
    pub async fn rest(&self) {
        self.relay.close().await;
    }

    /// Sends mails until `soft`, then finishes those that were begun and frees the others.
    pub async fn run(self: Arc<Self>, soft: impl Future<Output = ()>) {
        tokio::pin!(soft);
        let mut sending = JoinSet::new();
        let mut beat = tokio::time::interval(self.flows.settings.short_lease() / 4);
        loop {
            while sending.try_join_next().is_some() {}
            let wait = match self.settings.batch.saturating_sub(sending.len()) {
                0 => Duration::MAX,
                free => match self.begin(&mut sending, free).await {
                    Ok(0) => self.settings.poll,
                    Ok(_) => Duration::ZERO,
                    Err(error) => {
                        failed(&self.flows, "deliver", &error);
                        REST
                    }
                },
            };
            tokio::select! {
                biased;
                () = &mut soft => break,
                _ = beat.tick() => self.keep_leases().await,
                Some(_) = sending.join_next() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.flows.mail_waits.notified(), if wait == self.settings.poll => {}
            }
        }
        self.slots.close();
        loop {
            tokio::select! {
                ended = sending.join_next() => match ended {
                    Some(_) => {}
                    None => break,
                },
                _ = beat.tick() => self.keep_leases().await,
            }
        }
        self.rest().await;
    }

    /// Renews the leases of mails that wait; one statement for all of them, and none while mails leave quickly.
    async fn keep_leases(&self) {
        let waiting: Vec<_> = self
            .waiting()
            .iter()
            .map(|(id, claim)| (*id, *claim))
            .collect();
        if !waiting.is_empty()
            && let Err(error) = renew(&self.flows, &waiting).await
        {
            failed(&self.flows, "deliver", &error);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<MessageId, Uuid>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims up to `limit` mails and begins to send them.
    async fn begin(
        self: &Arc<Self>,
        sending: &mut JoinSet<()>,
        limit: usize,
    ) -> Result<usize, store::Error> {
        let composer = self.composer();
        let hash = move |kind: MessageKind, locale: &Locale| composer.hash(kind, locale);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimed = claim(&self.flows, limit, &hash).await?;
        let dealt = claimed.jobs.len() + claimed.ended.len();
        for job in claimed.jobs {
            let deliver = self.clone();
            self.waiting().insert(job.message.id, job.claim);
            sending.spawn(async move {
                deliver.one(&job).await;
                deliver.waiting().remove(&job.message.id);
            });
        }
        Ok(dealt)
    }

    /// Sends one claimed mail and settles it.
    async fn one(&self, job: &Job) {
        let Ok(_slot) = self.slots.acquire().await else {
            // Stopping: nothing was said to the relay, so another process may have it at once.
            return self.give_back(job).await;
        };
        let (composed, proof) = match self.compose(job).await {
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
        let mail = Outgoing {
            from: &composed.envelope_from,
            to: &composed.envelope_to,
            bytes: &composed.bytes,
        };
        let looked = Mutex::new(Looked::Not);
        let verdict = self
            .relay
            .send(mail, async || {
                let item = Start {
                    message: job.message.clone(),
                    claim: job.claim,
                };
                self.waiting().remove(&job.message.id);
                let (go, said) = match self.starts.pass(item).await {
                    Ok(go) => (go, Looked::Said),
                    Err(_) => (false, Looked::Failed),
                };
                *looked.lock().unwrap_or_else(PoisonError::into_inner) = said;
                go
            })
            .await;
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

    async fn compose(&self, job: &Job) -> Result<(Composed, Proof), String> {
        let message = &job.message;
        let letter = Letter {
            kind: message.kind,
            pinned: job.pinned.clone(),
            to: job.to.clone(),
            locale: job.locale.clone(),
            facts: job.facts.clone(),
            signup: message.signup.map(|id| id.0),
            subscriptions: job.subscriptions.iter().map(|id| id.0).collect(),
            asked_at: job.asked_at,
            site: job.site.clone(),
            expires: job.expires,
        };
        let named = message.lists.iter().map(|about| about.facts).collect();
        let composer = self.composer();
        if !composer.knows(&letter) {
            let read = async || {
                self.flows
                    .pool
                    .read()
                    .await?
                    .template(job.pinned.template)
                    .await
            };
            let source = read().await.map_err(|error| error.to_string())?;
            let source = source.ok_or("the templates of this mail were not kept")?;
            composer.learn(&source).map_err(|error| error.to_string())?;
        }
        let composed = composer.compose_proven(&letter, named, &self.flows.keys().links);
        composed.map_err(|error| error.to_string())
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
        let ids = [(job.message.id, job.claim)];
        if let Err(error) = release(&self.flows, &ids).await {
            // Its lease ends by itself.
            failed(&self.flows, "deliver", &error);
        }
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
