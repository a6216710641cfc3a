//! What one process does: it looks at the queue, begins what may begin, and hears what became of it.

use super::{BATCH, Happening, LEASE, MINUTE, Mail, Mode, Process, SECOND, SESSIONS, Trial, World};
use crate::domain::delivery::breaker::{Admits, Sign, Turned};
use crate::domain::delivery::retry::{LIFE, LOST_CLAIMS, Next, after};
use crate::domain::delivery::{Attempt, MessageState};

impl World {
    pub(super) fn crash(&mut self, process: usize) {
        let running = std::mem::take(&mut self.processes[process].running);
        for trial in running.into_values().filter(|trial| trial.kept) {
            self.mails[trial.mail].unsaid += 1;
        }
        self.numbers += 1;
        let life = self.numbers;
        let mut born = Process::new(life, self.now);
        let oldest = self
            .mails
            .iter()
            .filter(|mail| mail.state == MessageState::Queued);
        if oldest
            .map(|mail| mail.due)
            .min()
            .is_some_and(|due| self.now.since(due) > 10 * MINUTE)
        {
            born.pace.slow_down(self.now);
        }
        self.processes[process] = born;
        let back = self.chance.within(MINUTE);
        self.after(back, Happening::Look(process, life));
    }

    /// A process looks at the queue.
    pub(super) fn look(&mut self, process: usize) {
        let life = self.processes[process].life;
        let waits = |mail: &&Mail| mail.state == MessageState::Queued;
        let due = self.mails.iter().filter(waits).map(|mail| mail.due).min();
        let asked = self.processes[process].breaker.until();
        let next = due.max(asked).map_or(MINUTE, |at| at.since(self.now));
        let wait = next.clamp(SECOND, MINUTE);
        self.after(wait, Happening::Look(process, life));
        for mail in &mut self.mails {
            if mail.state == MessageState::Claimed && mail.lease <= self.now {
                mail.lost += 1;
                mail.freed += 1;
                mail.state = match mail.lost < LOST_CLAIMS {
                    true => MessageState::Queued,
                    false => MessageState::Quarantined,
                };
                mail.claim = 0;
            }
        }
        let one = &mut self.processes[process];
        let room = match one.breaker.admits(self.now) {
            Admits::All => one.pace.room(self.now),
            Admits::One => one.pace.room(self.now).min(1),
            Admits::Knock => {
                one.breaker.begin();
                let (mode, wait) = (self.mode, self.chance.within(SECOND));
                return self.after(wait, Happening::Knocked(process, life, mode));
            }
            Admits::Nothing => 0,
        };
        let under_way = one.waiting.len() + one.running.len();
        let room = room.min(BATCH.saturating_sub(under_way));
        let mut due: Vec<usize> = (0..self.mails.len())
            .filter(|i| {
                self.mails[*i].state == MessageState::Queued && self.mails[*i].due <= self.now
            })
            .collect();
        due.sort_by_key(|i| self.mails[*i].due);
        due.truncate(room);
        let suspect = |mail: &Mail| mail.lost + 1 >= LOST_CLAIMS;
        match due.first() {
            Some(first) if suspect(&self.mails[*first]) && under_way > 0 => return,
            Some(first) if suspect(&self.mails[*first]) => due.truncate(1),
            _ => due.retain(|i| !suspect(&self.mails[*i])),
        }
        for i in due {
            self.numbers += 1;
            let mail = &mut self.mails[i];
            mail.state = MessageState::Claimed;
            (mail.claim, mail.lease) = (self.numbers, self.now + LEASE);
            mail.first.get_or_insert(self.now);
            let one = &mut self.processes[process];
            one.breaker.begin();
            one.pace.take();
            one.took.push_back(self.now);
            one.waiting.push_back((i, self.numbers));
        }
        self.dispatch(process);
    }

    /// Begins what may begin.
    fn dispatch(&mut self, process: usize) {
        loop {
            let one = &mut self.processes[process];
            let mut waiting = one.waiting.iter();
            let place = waiting.position(|(i, _)| one.turns.may_begin(&self.mails[*i].domain));
            let Some((i, claim)) = place.and_then(|place| one.waiting.remove(place)) else {
                return;
            };
            // The last look, which sees whether the claim still holds.
            if self.mails[i].claim != claim {
                continue;
            }
            let mail = &mut self.mails[i];
            one.turns.begin(&mail.domain);
            assert!(
                self.now >= mail.not_before,
                "seed {}: perhaps sent, and tried again too soon: {mail:?}",
                self.seed
            );
            let unproven = |i: &usize| !one.turns.is_quick(&self.mails[*i].domain);
            let held =
                one.running.keys().filter(|i| unproven(i)).count() + usize::from(unproven(&i));
            assert!(
                !unproven(&i) || held <= SESSIONS / 2,
                "seed {}: slow domains hold too much",
                self.seed
            );
            let mail = &mut self.mails[i];
            let end = mail.first.map_or(self.now, |first| first + LIFE);
            let overdue = self.now.since(end) > LEASE;
            assert!(
                !overdue,
                "seed {}: tried after its life: {mail:?}",
                self.seed
            );
            let kept = matches!(self.mode, Mode::Works | Mode::LosesAnswer);
            mail.copies += u32::from(kept);
            if matches!(self.mode, Mode::Down | Mode::Refuses) {
                one.cost += 1;
            }
            let trial = Trial {
                mail: i,
                claim,
                mode: self.mode,
                began: self.now,
                kept,
            };
            one.running.insert(i, trial);
            let longest = match (self.mode, mail.domain.starts_with("slow")) {
                (Mode::Works, false) | (Mode::PutsOff | Mode::Refuses, _) => SECOND / 20,
                (Mode::Works, true) => 20 * MINUTE,
                (Mode::Down, _) => 30 * SECOND,
                (Mode::LosesAnswer, _) => 10 * MINUTE,
            };
            let (life, took) = (one.life, self.chance.within(longest));
            self.after(took, Happening::End(process, life, trial));
        }
    }

    /// The relay has said its last word on one mail.
    pub(super) fn end(&mut self, process: usize, trial: Trial) {
        let (attempt, sign, about_mail) = match trial.mode {
            Mode::Works => (Attempt::Sent, Sign::Works, true),
            Mode::Down => (Attempt::Deferred, Sign::Fails, false),
            Mode::Refuses => (Attempt::Deferred, Sign::Refuses, false),
            Mode::PutsOff => (Attempt::Deferred, Sign::Works, true),
            Mode::LosesAnswer => (Attempt::Ambiguous, Sign::Fails, true),
        };
        self.note(process, sign);
        let jitter = self.chance.below(256) as u8;
        let mail = &mut self.mails[trial.mail];
        let one = &mut self.processes[process];
        one.running.remove(&trial.mail);
        let took = self.now.since(trial.began);
        one.turns.end(&mail.domain, about_mail.then_some(took));
        if mail.claim != trial.claim {
            mail.unsaid += u32::from(trial.kept);
            return self.dispatch(process);
        }
        let was_ambiguous = mail.ambiguous;
        mail.attempts += 1;
        mail.ambiguous += u32::from(attempt == Attempt::Ambiguous);
        (mail.claim, mail.lost) = (0, 0);
        let end = mail.first.map_or(self.now, |first| first + LIFE);
        match after(
            attempt,
            self.now,
            mail.attempts,
            mail.ambiguous,
            end,
            jitter,
        ) {
            Next::End(state) => {
                let unknown = mail.ambiguous > 0 && attempt != Attempt::Sent;
                let right = !unknown || state == MessageState::Unknown;
                assert!(
                    right,
                    "seed {}: perhaps sent is {state:?}: {mail:?}",
                    self.seed
                );
                mail.state = state;
            }
            Next::Retry(at) => {
                assert!(
                    at < end,
                    "seed {}: to be tried after its life: {mail:?}",
                    self.seed
                );
                let least = self.now + 48 * SECOND;
                assert!(
                    at >= least,
                    "seed {}: to be tried too soon: {mail:?}",
                    self.seed
                );
                assert!(
                    was_ambiguous == 0 || attempt != Attempt::Ambiguous,
                    "seed {}: perhaps sent twice, and tried again: {mail:?}",
                    self.seed
                );
                if attempt == Attempt::Ambiguous {
                    mail.not_before = self.now + 30 * MINUTE;
                }
                (mail.state, mail.due) = (MessageState::Queued, at);
            }
        }
        self.dispatch(process);
    }

    pub(super) fn note(&mut self, process: usize, sign: Sign) {
        let jitter = self.chance.below(256) as u8;
        let one = &mut self.processes[process];
        match one.breaker.note(sign, self.now, jitter) {
            Some(Turned::Paused(pause)) => {
                assert!(
                    pause <= 6 * MINUTE,
                    "seed {}: a pause of {pause:?}",
                    self.seed
                );
                for (i, claim) in std::mem::take(&mut one.waiting) {
                    let mail = &mut self.mails[i];
                    if mail.claim == claim {
                        (mail.state, mail.claim) = (MessageState::Queued, 0);
                    }
                }
            }
            Some(Turned::Back) => one.pace.slow_down(self.now),
            None => {}
        }
    }
}
