//! When a relay that does not work is left alone, and when it is asked again.

use std::time::Duration;

use super::retry::spread;
use crate::domain::time::Timestamp;

/// What an attempt says about the relay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It takes part in a dialogue, whatever it thinks of the one mail.
    Works,
    /// It greeted and let us in; whether it takes mails is not known.
    Answers,
    /// It did not answer, or put everybody off: once may be chance.
    Fails,
    /// It refuses to work for us, whatever the mail.
    Refuses,
    /// Nothing.
    Silent,
}

/// How many mails a relay may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// As many as it takes.
    All,
    /// None before somebody has knocked.
    Knock,
    /// One, to see whether it works again.
    One,
    /// None for now.
    Nothing,
}

/// Failures in a row after which a relay is left alone.
const FAILURES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A circuit breaker: opened by a relay that fails or refuses, half open after a pause, closed when it works.
///
/// Half open, it is knocked at without a mail first: a relay that is dead for a day costs no mail an attempt.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
    until: Option<Timestamp>,
    answered: bool,
    probing: bool,
}

/// What an attempt changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The relay is left alone for so long.
    Paused(Duration),
    /// It works again.
    Back,
}

impl Breaker {
    /// Says how many mails may go to the relay now.
    pub fn admits(&self, now: Timestamp) -> Admits {
        match self.until {
            None => Admits::All,
            Some(until) if !is_over(until, now) || self.probing => Admits::Nothing,
            Some(_) if !self.answered => Admits::Knock,
            Some(_) => Admits::One,
        }
    }

    /// Tells whether a mail that was admitted before must not go any more.
    pub fn is_open(&self) -> bool {
        self.until.is_some() && !self.probing
    }

    /// Returns when the relay is asked again; none while it works.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Notes that a mail goes to the relay, or that somebody knocks.
    pub fn begin(&mut self) {
        self.probing = self.until.is_some();
    }

    /// Notes what an attempt said; `jitter` in 0..=255 spreads the pause by a fifth to either side.
    pub fn note(&mut self, sign: Sign, now: Timestamp, jitter: u8) -> Option<Turned> {
        let paused = self.until;
        match sign {
            Sign::Silent | Sign::Answers => {
                self.probing = false;
                self.answered |= sign == Sign::Answers;
                None
            }
            Sign::Works => {
                *self = Self::default();
                paused.map(|_| Turned::Back)
            }
            // Mails that were under way when it was paused say nothing new; nor does a knock before which the clock was
            // set back.
            _ if paused.is_some_and(|until| !is_over(until, now)) => {
                self.probing = false;
                None
            }
            Sign::Fails if paused.is_none() && self.failures + 1 < FAILURES => {
                self.failures += 1;
                None
            }
            Sign::Fails | Sign::Refuses => {
                let pause = spread(
                    FIRST_PAUSE
                        .saturating_mul(1 << self.pauses.min(10))
                        .min(LONGEST_PAUSE),
                    jitter,
                );
                *self = Self {
                    pauses: self.pauses + 1,
                    until: Some(now + pause),
                    ..Self::default()
                };
                Some(Turned::Paused(pause))
            }
        }
    }
}

/// A pause that would last longer than any was begun by a clock that has been set back since.
fn is_over(until: Timestamp, now: Timestamp) -> bool {
    until <= now || until.since(now) > LONGEST_PAUSE * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn three_failures_in_a_row_pause_and_a_knock_and_one_mail_ask_again() {
        let mut breaker = Breaker::default();
        for sign in [
            Sign::Fails,
            Sign::Fails,
            Sign::Works,
            Sign::Fails,
            Sign::Fails,
        ] {
            assert_eq!(breaker.note(sign, NOW, 128), None);
            assert_eq!(breaker.admits(NOW), Admits::All);
        }
        let Some(Turned::Paused(pause)) = breaker.note(Sign::Fails, NOW, 128) else {
            panic!("no pause");
        };
        assert_eq!(breaker.admits(NOW), Admits::Nothing);
        assert_eq!(breaker.note(Sign::Fails, NOW, 128), None);
        let later = NOW + pause;
        assert_eq!(breaker.admits(later), Admits::Knock);
        breaker.begin();
        assert_eq!(breaker.admits(later), Admits::Nothing);
        assert_eq!(breaker.note(Sign::Answers, later, 0), None);
        assert_eq!(breaker.admits(later), Admits::One);
        breaker.begin();
        assert_eq!(breaker.admits(later), Admits::Nothing);
        assert_eq!(breaker.note(Sign::Works, later, 0), Some(Turned::Back));
        assert_eq!(breaker.admits(later), Admits::All);
    }

    #[test]
    fn a_refusal_pauses_at_once_and_pauses_grow_to_five_minutes() {
        let (mut breaker, mut now, mut pauses) = (Breaker::default(), NOW, Vec::new());
        for _ in 0..7 {
            breaker.begin();
            let Some(Turned::Paused(pause)) = breaker.note(Sign::Refuses, now, 128) else {
                panic!("no pause");
            };
            pauses.push(pause.as_secs());
            now = now + pause;
            assert_eq!(breaker.admits(now), Admits::Knock);
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn a_probe_that_said_nothing_is_made_again() {
        let mut breaker = Breaker::default();
        breaker.note(Sign::Refuses, NOW, 0);
        let later = NOW + LONGEST_PAUSE;
        breaker.begin();
        assert_eq!(breaker.note(Sign::Silent, later, 0), None);
        assert_eq!(breaker.admits(later), Admits::Knock);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_pause() {
        let mut breaker = Breaker::default();
        breaker.note(Sign::Refuses, NOW, 0);
        let earlier = NOW - Duration::from_secs(3600);
        assert_eq!(breaker.admits(earlier), Admits::Knock);
    }

    #[test]
    fn a_clock_that_is_set_back_during_a_knock_ends_the_knock() {
        let mut breaker = Breaker::default();
        breaker.note(Sign::Refuses, NOW, 128);
        let later = NOW + FIRST_PAUSE * 2;
        breaker.begin();
        assert_eq!(breaker.note(Sign::Fails, NOW, 128), None);
        assert_eq!(breaker.admits(later), Admits::Knock);
    }
}
