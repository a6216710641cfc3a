//! One relay as delivery sees it: whether it takes mails, how fast, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::alarm::Alarm;
use crate::clock::random;
use crate::domain::delivery::breaker::{Admits, Breaker, Sign, Turned};
use crate::domain::delivery::pace::Pace;
use crate::domain::delivery::retry::spread;
use crate::domain::delivery::turns::Turns;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::smtp::{Relay, Verdict};
use crate::store::message::Message;
use crate::telemetry::logs::field;

/// Mails that may stand in line behind those that hang; the others go back for a while.
const SLOW_IN_LINE: usize = 16;
/// Mails that may stand in line for a relay beside which there are others.
const IN_LINE: usize = 100;
/// How long the first mail goes back that found the line full.
const FIRST_WHILE: Duration = Duration::from_secs(10);
/// How much longer each further one of its domain does.
const LONGER: Duration = Duration::from_millis(100);
const LONGEST_WHILE: Duration = Duration::from_secs(300);

/// A relay and the mails that wait for it.
pub(super) struct Lane {
    flows: Arc<Flows>,
    name: String,
    relay: Relay,
    state: Mutex<State>,
    closed: AtomicBool,
}

struct State {
    breaker: Breaker,
    alarm: Alarm,
    pace: Pace,
    turns: Turns,
    waiting: VecDeque<Waiting>,
    /// How many mails went back, by domain, since it was slow.
    sent_back: HashMap<String, u32>,
}

/// A mail in line.
struct Waiting {
    domain: String,
    turn: oneshot::Sender<Turn>,
}

/// Why a relay takes no mail now, and when to ask again.
pub(super) enum Refusal {
    /// Its cap is reached: what is over it waits.
    Capped(Timestamp),
    /// It is left alone, or mails hang there: another may take it.
    Stuck(Timestamp),
}

/// The right to use one session for one mail; it ends when dropped.
pub(super) struct Turn {
    lane: Arc<Lane>,
    domain: String,
    /// How long the mail took, where that says something about its domain.
    took: Option<Duration>,
}

impl Lane {
    pub(super) fn new(
        flows: Arc<Flows>,
        name: String,
        relay: Relay,
        sessions: usize,
        rate: Option<u32>,
    ) -> Self {
        let state = State {
            breaker: Breaker::default(),
            alarm: Alarm::default(),
            pace: Pace::new(rate, flows.clock.now()),
            turns: Turns::new(sessions),
            waiting: VecDeque::new(),
            sent_back: HashMap::new(),
        };
        flows.metrics.relay_paused(&name, false);
        flows.metrics.relay_alarm(&name, false);
        Self {
            flows,
            name,
            relay,
            state: Mutex::new(state),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn relay(&self) -> &Relay {
        &self.relay
    }

    pub(super) fn sessions(&self) -> usize {
        self.state().turns.sessions()
    }

    /// Returns how many mails the relay takes now; none while it is left alone.
    pub(super) fn room(&self, now: Timestamp) -> Option<usize> {
        let mut state = self.state();
        match state.breaker.admits(now) {
            Admits::All => Some(state.pace.room(now)),
            Admits::One => Some(state.pace.room(now).min(1)),
            Admits::Knock | Admits::Nothing => None,
        }
    }

    /// Knocks at a relay that was left alone long enough; returns none if it was not.
    pub(super) fn knock(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Option<impl Future<Output = ()> + use<>> {
        {
            let mut state = self.state();
            if state.breaker.admits(now) != Admits::Knock {
                return None;
            }
            state.breaker.begin();
        }
        let lane = self.clone();
        Some(async move {
            let sign = match lane.relay.probe().await {
                Ok(_) => Sign::Answers,
                Err(_) => Sign::Fails,
            };
            lane.note(sign);
        })
    }

    /// Begins slowly, since much has waited for long.
    pub(super) fn slow_down(&self, now: Timestamp) {
        self.state().pace.slow_down(now);
    }

    /// Takes one mail to a domain, or says when to try again; `others` tells of further relays.
    pub(super) fn take(&self, domain: &str, now: Timestamp, others: bool) -> Result<(), Refusal> {
        let mut state = self.state();
        let admits = state.breaker.admits(now);
        if matches!(admits, Admits::Knock | Admits::Nothing) {
            let until = state.breaker.until().unwrap_or(now);
            return Err(Refusal::Stuck(until.max(now + Duration::from_secs(1))));
        }
        if state.pace.room(now) == 0 {
            return Err(Refusal::Capped(now + Duration::from_secs(1)));
        }
        let behind = |waiting: &&Waiting| state.turns.is_behind(&waiting.domain, domain);
        let crowded = state.turns.is_held_up(domain)
            && state.waiting.iter().filter(behind).count() >= SLOW_IN_LINE;
        // One mail finds out whether the relay works: none of a domain that hangs already.
        let in_vain =
            admits == Admits::One && state.turns.is_slow(domain) && !state.turns.may_begin(domain);
        // Where those that hang fill the line, it is not full for one whose domain is quick.
        let quick = state.turns.is_quick(domain);
        let alike = |waiting: &&Waiting| state.turns.is_quick(&waiting.domain) == quick;
        if crowded || in_vain || (others && state.waiting.iter().filter(alike).count() >= IN_LINE) {
            return Err(Refusal::Stuck(now + state.a_while(domain)));
        }
        state.breaker.begin();
        state.pace.take();
        Ok(())
    }

    /// Puts a mail that was taken in line. What comes is its turn, or nothing when it has to go back. Tells also whether
    /// it waits for others of its own domain.
    pub(super) fn enter(self: &Arc<Self>, domain: &str) -> (oneshot::Receiver<Turn>, bool) {
        let (turn, comes) = oneshot::channel();
        let domain = domain.to_owned();
        let held_back = {
            let mut state = self.state();
            let held_back = !state.turns.is_quick(&domain) && !state.turns.may_begin(&domain);
            if !self.closed.load(Ordering::Relaxed) && !state.breaker.is_open() {
                state.waiting.push_back(Waiting { domain, turn });
            }
            held_back
        };
        self.dispatch();
        (comes, held_back)
    }

    /// Returns when a mail that had to go back is to be tried, if not as soon as may be.
    pub(super) fn later(&self, domain: &str, now: Timestamp) -> Option<Timestamp> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state();
        match state.turns.is_held_up(domain) {
            true => Some(now + state.a_while(domain)),
            false => state.breaker.until(),
        }
    }

    /// Returns how long a mail may take until its domain counts as slow.
    pub(super) fn patience(&self) -> Duration {
        self.state().turns.patience()
    }

    /// Notes that a mail under way takes long; those that wait behind it and many others go back.
    pub(super) fn drags(&self, domain: &str) {
        let State {
            turns,
            waiting,
            breaker,
            ..
        } = &mut *self.state();
        turns.drags(domain);
        // Another mail may find out whether the relay works.
        breaker.note(Sign::Silent, self.flows.clock.now(), 0);
        let mut behind = 0;
        waiting.retain(|one| {
            let is_behind = turns.is_behind(&one.domain, domain);
            behind += usize::from(is_behind);
            !is_behind || behind <= SLOW_IN_LINE
        });
    }

    /// Sends back whatever waits, but for domains that are quick: one that must be tried alone waits until the rest ended.
    pub(super) fn clear(&self) {
        let State { turns, waiting, .. } = &mut *self.state();
        waiting.retain(|one| turns.is_quick(&one.domain));
    }

    /// Notes what an attempt said about the relay.
    pub(super) fn note(&self, sign: Sign) {
        let now = self.flows.clock.now();
        let [jitter] = random::<1>();
        let turned = {
            let mut state = self.state();
            let turned = state.breaker.note(sign, now, jitter);
            match turned {
                // Who waits for a relay that is left alone goes back.
                Some(Turned::Paused(_)) => state.waiting.clear(),
                Some(Turned::Back) => state.pace.slow_down(now),
                None => {}
            }
            turned
        };
        match turned {
            Some(Turned::Paused(pause)) => {
                self.flows.metrics.relay_paused(&self.name, true);
                tracing::warn!(
                    { field::RELAY } = self.name,
                    seconds = pause.as_secs(),
                    "the relay is left alone for a while; mails wait"
                );
            }
            Some(Turned::Back) => {
                self.flows.metrics.relay_paused(&self.name, false);
                tracing::info!(
                    { field::RELAY } = self.name,
                    "the relay works again; mails go slowly at first"
                );
            }
            None => {}
        }
    }

    /// Says once that the relay refuses to work for us, and once that it takes mails again.
    pub(super) fn sound_alarm(&self, verdict: Verdict, message: &Message) {
        let (on, sender) = {
            let alarm = &mut self.state().alarm;
            let Some(on) = alarm.hear(verdict, message) else {
                return;
            };
            (on, alarm.sender().cloned())
        };
        self.flows.metrics.relay_alarm(&self.name, on);
        match verdict {
            Verdict::Misconfigured { phase, cause } => {
                let sender = sender.as_ref().map(tracing::field::display);
                tracing::error!({ field::RELAY } = self.name, { field::SENDER } = sender, { field::PHASE } = %phase, { field::REASON } = %cause, "the relay refuses to work for us: check its settings; mails wait, for two days at most");
            }
            _ => tracing::info!({ field::RELAY } = self.name, "the relay takes mails again"),
        }
    }

    /// Returns how many mails wait for others of a domain that is not known to be quick.
    pub(super) fn held_back(&self) -> usize {
        let state = self.state();
        let waiting = state.waiting.iter();
        waiting.filter(|w| !state.turns.is_quick(&w.domain)).count()
    }

    /// Lets nobody begin any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.state().waiting.clear();
    }

    /// Lets begin who may.
    fn dispatch(self: &Arc<Self>) {
        while let Some(Waiting { domain, turn }) = self.next() {
            // One that nobody waits for any more ends here.
            let _ = turn.send(Turn {
                lane: self.clone(),
                domain,
                took: None,
            });
        }
    }

    fn next(&self) -> Option<Waiting> {
        let mut state = self.state();
        if state.turns.are_all_taken() {
            return None;
        }
        let mut waiting = state.waiting.iter();
        let place = waiting.position(|waiting| state.turns.may_begin(&waiting.domain))?;
        let next = state.waiting.remove(place)?;
        state.turns.begin(&next.domain);
        Some(next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says for how long a mail goes back.
    fn a_while(&mut self, domain: &str) -> Duration {
        let before = self.sent_back.entry(domain.to_owned()).or_insert(0);
        *before = before.saturating_add(1);
        let [jitter] = random::<1>();
        let wait = FIRST_WHILE + LONGER * *before;
        spread(wait.min(LONGEST_WHILE), jitter)
    }
}

impl Turn {
    /// Ends, and says how long the mail took.
    pub(super) fn end(mut self, took: Option<Duration>) {
        self.took = took;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.lane.state();
            state.turns.end(&self.domain, self.took);
            if state.turns.is_quick(&self.domain) {
                state.sent_back.remove(&self.domain);
            }
        }
        self.lane.dispatch();
    }
}
