//! The line before the relay: mails that were claimed and not yet let through, oldest first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::flow::job::Job;
use crate::flow::lease::renew;
use crate::flow::start::start;
use crate::store::Error;

/// How old a look may be when DATA is written. Later the mail is looked at again.
const FRESH: Duration = Duration::from_millis(100);

/// Claimed mails whose leases must be kept alive.
pub(super) struct Line {
    mails: Mutex<VecDeque<Arc<InLine>>>,
    /// One look at a time: who waits for it was perhaps looked at by it.
    looking: tokio::sync::Mutex<()>,
    /// How many mails are about to start.
    ahead: usize,
}

/// A mail in line.
pub(super) struct InLine {
    job: Arc<Job>,
    /// It waits for others of its domain, not for the next free session.
    held_back: AtomicBool,
    looked: Mutex<Option<(Timestamp, bool)>>,
}

impl InLine {
    /// Notes whether it waits for others of its domain.
    pub(super) fn hold_back(&self, held_back: bool) {
        self.held_back.store(held_back, Ordering::Relaxed);
    }

    /// What was seen lately; nothing when the clock was set back.
    fn fresh(&self, now: Timestamp) -> Option<bool> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.and_then(|(at, go)| (at..at + FRESH).contains(&now).then_some(go))
    }

    fn note(&self, at: Timestamp, go: bool) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, go));
    }
}

impl Line {
    pub(super) fn new(ahead: usize) -> Self {
        Self {
            mails: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            ahead,
        }
    }

    pub(super) fn join(&self, job: Arc<Job>) -> Arc<InLine> {
        let mail = Arc::new(InLine {
            job,
            held_back: AtomicBool::new(false),
            looked: Mutex::default(),
        });
        self.mails().push_back(mail.clone());
        mail
    }

    pub(super) fn leave(&self, mail: &Arc<InLine>) {
        let mut mails = self.mails();
        if let Some(place) = mails.iter().position(|other| Arc::ptr_eq(other, mail)) {
            mails.remove(place);
        }
    }

    /// Renews the leases of all mails in line, in one statement; none while mails leave quickly.
    pub(super) async fn keep(&self, flows: &Flows) -> Result<(), Error> {
        // A look renews leases too: two at once would lock the same rows in two orders.
        let _one = self.looking.lock().await;
        let claims = self.claims();
        match claims.is_empty() {
            true => Ok(()),
            false => renew(flows, &claims).await,
        }
    }

    fn claims(&self) -> Vec<(MessageId, Uuid)> {
        let mails = self.mails();
        let claims = mails.iter().map(|m| (m.job.message.id, m.job.claim));
        claims.collect()
    }

    /// Takes the last look at a mail that is about to start, and in the same read at those behind it; returns whether it
    /// may be sent.
    pub(super) async fn look(&self, flows: &Arc<Flows>, mail: &Arc<InLine>) -> Result<bool, Error> {
        if let Some(go) = mail.fresh(flows.clock.now()) {
            return Ok(go);
        }
        let _one = self.looking.lock().await;
        let now = flows.clock.now();
        if let Some(go) = mail.fresh(now) {
            return Ok(go);
        }
        let batch = self.about_to_start(mail, now);
        let jobs: Vec<_> = batch.iter().map(|mail| mail.job.clone()).collect();
        let answers = start(flows.clone(), &jobs).await?;
        for (mail, go) in batch.iter().zip(&answers) {
            mail.note(now, *go);
        }
        Ok(answers.first() == Some(&true))
    }

    /// The mail itself, then the next ones that were not looked at lately.
    fn about_to_start(&self, mail: &Arc<InLine>, now: Timestamp) -> Vec<Arc<InLine>> {
        let mails = self.mails();
        let next = mails
            .iter()
            .filter(|m| !m.held_back.load(Ordering::Relaxed));
        let others = next.take(self.ahead);
        let others = others.filter(|m| !Arc::ptr_eq(m, mail) && m.fresh(now).is_none());
        std::iter::once(mail).chain(others).cloned().collect()
    }

    fn mails(&self) -> MutexGuard<'_, VecDeque<Arc<InLine>>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
