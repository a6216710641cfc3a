//! Mails leave: claim, compose, send, settle.
//!
//! Each mail is claimed in a committed transaction before a byte is sent, looked at once more before the write that
//! carries DATA, and settled after the relay's last word. No transaction is open while SMTP runs. A session goes on to the
//! next mail while the last one's settlement waits for its commit; never more than two batches are claimed and unsettled,
//! nor more than four with those that wait for a slow domain.

mod alarm;
mod attempt;
mod compose;
mod lane;
mod line;
pub mod route;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::lane::Lane;
use self::line::Line;
use self::route::Routes;
use super::{PAUSE, REST, failed};
use crate::domain::delivery::{Attempt, MessageKind};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::flow::claim::{Room, claim};
use crate::flow::gate::Gate;
use crate::flow::job::Job;
use crate::flow::lease::give_back;
use crate::flow::settle::{self, settle};
use crate::flow::space::Need;
use crate::message::Composer;
use crate::store;
use crate::store::queue::Back;

/// What delivery is told by configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mails claimed at once.
    pub batch: usize,
    /// How often the queue is looked at without a ring.
    pub poll: Duration,
    /// Requests that wait at a gate.
    pub waiting: usize,
}

/// The role that sends mails.
pub struct Deliver {
    flows: Arc<Flows>,
    routes: Routes,
    settings: Settings,
    results: Gate<Arc<settle::Plan>, settle::Outcome>,
    returns: Gate<Back, ()>,
    composer: RwLock<Arc<Composer>>,
    line: Line,
    begun: AtomicBool,
    /// Attempts under way must end now.
    cut: watch::Sender<bool>,
}

/// Mails that are about to start, for each session.
const AHEAD: usize = 16;
/// Mails composed at a time: the first ones leave while the others are made.
const COMPOSED: usize = 16;

/// After this time in the queue, mails have piled up while nobody sent any.
const PILED_UP: Duration = Duration::from_secs(600);

/// How a look at the queue ended.
enum Begun {
    /// So many mails were dealt with, and whether more may be due.
    Dealt(usize, bool),
    /// No relay takes mails now.
    NoRoom,
    /// No relay does, but one was asked whether it will.
    Knocked,
    /// The next mail must be tried alone, when those under way have ended.
    Alone,
}

impl Deliver {
    /// Puts the role together and keeps the templates in force, so that every mail can be made again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn new(
        flows: Arc<Flows>,
        routes: Routes,
        composer: Arc<Composer>,
        settings: Settings,
    ) -> Result<Self, store::Error> {
        let deliver = Self {
            results: Gate::open(flows.clone(), settings.waiting, Need::CannotWait, settle),
            returns: Gate::open(flows.clone(), settings.waiting, Need::CannotWait, give_back),
            composer: RwLock::new(composer.clone()),
            line: Line::new(AHEAD * routes.sessions()),
            begun: AtomicBool::new(false),
            cut: watch::Sender::new(false),
            routes,
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

    /// Returns the relays that mails go to.
    pub fn routes(&self) -> &Routes {
        &self.routes
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
        loop {
            let begun = self.begin(&mut sending).await?;
            while sending.join_next().await.is_some() {}
            match begun {
                Begun::Dealt(dealt, _) => return Ok(dealt),
                Begun::NoRoom => return Ok(0),
                Begun::Knocked | Begun::Alone => {}
            }
        }
    }

    /// Says goodbye to the relay on connections that are not in use.
    pub async fn rest(&self) {
        self.routes.rest().await;
    }

    /// Sends mails until `soft`, then frees those that were not begun and finishes the others, until `hard`.
    pub async fn run(
        self: Arc<Self>,
        soft: impl Future<Output = ()>,
        hard: impl Future<Output = ()>,
    ) {
        let stopping = Notify::new();
        let stop = async {
            soft.await;
            // Whoever waits for a session waits in vain from here on, even while a batch is being claimed.
            self.routes.close();
            stopping.notify_one();
        };
        let work = async { tokio::join!(stop, self.work(&stopping)) };
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => {}
            () = hard => {
                self.cut.send_replace(true);
                work.await;
            }
        }
        self.rest().await;
    }

    async fn work(self: &Arc<Self>, stopping: &Notify) {
        let mut sending = JoinSet::new();
        let mut beat = tokio::time::interval(self.flows.settings.short_lease() / 4);
        let mut alone = false;
        loop {
            while sending.try_join_next().is_some() {}
            // One that must be tried alone waits until all that is under way has ended.
            alone &= !sending.is_empty();
            let wait = match alone || self.is_busy(sending.len()) {
                true => Duration::MAX,
                false => match self.begin(&mut sending).await {
                    Ok(Begun::Dealt(_, true)) => Duration::ZERO,
                    Ok(Begun::Dealt(..) | Begun::NoRoom) => self.settings.poll,
                    Ok(Begun::Knocked) => Duration::MAX,
                    Ok(Begun::Alone) => {
                        alone = true;
                        Duration::MAX
                    }
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

    /// Tells whether enough is under way: the next batch is claimed while the last one is sent, and mails that wait for
    /// slow domains keep no other from being claimed.
    fn is_busy(&self, sending: usize) -> bool {
        let batch = self.settings.batch;
        let much = || sending.saturating_sub(self.routes.held_back()) > batch;
        sending > 3 * batch || sending > batch && much()
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
    async fn begin(self: &Arc<Self>, sending: &mut JoinSet<()>) -> Result<Begun, store::Error> {
        // What cannot be settled is sent a second time: nothing more leaves until there is room.
        if self.flows.space.is_low() {
            return Ok(Begun::NoRoom);
        }
        let now = self.flows.clock.now();
        self.begin_slowly(now).await?;
        let knocked = self.routes.knock(now, sending);
        let room = self.routes.room(now).min(self.settings.batch);
        if room == 0 {
            return Ok(match knocked {
                true => Begun::Knocked,
                false => Begun::NoRoom,
            });
        }
        let composer = self.composer();
        let hash = {
            let composer = composer.clone();
            move |kind: MessageKind, locale: &Locale| composer.hash(kind, locale)
        };
        let wanted = Room {
            mails: i64::try_from(room).unwrap_or(i64::MAX),
            alone: sending.is_empty(),
        };
        let claimed = claim(&self.flows, wanted, &hash).await?;
        if claimed.must_wait {
            self.routes.lanes().iter().for_each(|lane| lane.clear());
            return Ok(Begun::Alone);
        }
        let dealt = claimed.jobs.len() + claimed.arrived.len() + claimed.ended.len();
        let more = claimed.more;
        if !claimed.arrived.is_empty() {
            self.write_down(&composer, claimed.arrived, sending).await;
        }
        let mut jobs = self
            .routed(claimed.jobs, now, sending)
            .into_iter()
            .peekable();
        while jobs.peek().is_some() {
            let (lanes, part): (Vec<_>, Vec<_>) = jobs.by_ref().take(COMPOSED).unzip();
            let made = self.compose(&composer, part).await.into_iter().zip(lanes);
            // All stand in line before the first one starts, so that one look sees them together.
            let line: Vec<_> = made
                .map(|((job, made), lane)| {
                    let mail = self.line.join(job.clone());
                    (job, made, lane, mail)
                })
                .collect();
            for (job, made, lane, mail) in line {
                let deliver = self.clone();
                // Asked for here: sessions take mails in the order of the line.
                let (turn, held_back) = lane.enter(job.to.domain());
                mail.hold_back(held_back);
                sending.spawn(async move {
                    deliver.one(&job, made, &lane, &mail, turn).await;
                    deliver.line.leave(&mail);
                });
            }
        }
        Ok(Begun::Dealt(dealt, more))
    }

    /// Keeps mails as evidence that are not sent, since an earlier copy arrived.
    async fn write_down(
        self: &Arc<Self>,
        composer: &Arc<Composer>,
        jobs: Vec<Arc<Job>>,
        sending: &mut JoinSet<()>,
    ) {
        for (job, made) in self.compose(composer, jobs).await {
            let deliver = self.clone();
            let proof = made.ok().map(|(_, proof)| proof);
            sending.spawn(async move { deliver.settle(&job, Attempt::Arrived, None, proof).await });
        }
    }

    /// Finds a relay for each mail; those for which there is none now go back.
    fn routed(
        self: &Arc<Self>,
        jobs: Vec<Arc<Job>>,
        now: Timestamp,
        sending: &mut JoinSet<()>,
    ) -> Vec<(Arc<Lane>, Arc<Job>)> {
        let mut routed = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.routes.take(&job.message.sender, job.to.domain(), now) {
                Ok(lane) => routed.push((lane, job)),
                Err(later) => {
                    let deliver = self.clone();
                    sending.spawn(async move { deliver.give_back(&job, Some(later)).await });
                }
            }
        }
        routed
    }

    /// Begins slowly where mails have piled up while nobody sent any.
    async fn begin_slowly(&self, now: Timestamp) -> Result<(), store::Error> {
        if self.begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        let oldest = self.flows.pool.read().await?.queue_depth().await?.oldest;
        if oldest.is_some_and(|due| now.since(due) > PILED_UP) {
            self.routes
                .lanes()
                .iter()
                .for_each(|lane| lane.slow_down(now));
        }
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }
}
