//! How fast mails may go to a relay: never above its cap, and slowly at first after it was away.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Mails a second with which sending begins again.
const FIRST: f64 = 20.0;
/// After this time the rate doubles.
const DOUBLES: Duration = Duration::from_secs(10);
/// Doublings after which only the cap holds: 20 mails a second have become 10,240.
const STEPS: u32 = 9;
/// So much may go at once of what was not used.
const BURST: Duration = Duration::from_secs(1);

/// A bucket of mails that fills with time.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Mails a second at most.
    cap: Option<u32>,
    /// When sending began again.
    again: Option<Timestamp>,
    room: f64,
    at: Timestamp,
}

impl Pace {
    /// Makes the pace of a relay that has not been away.
    pub fn new(cap: Option<u32>, now: Timestamp) -> Self {
        let mut pace = Self {
            cap,
            again: None,
            room: 0.0,
            at: now - BURST,
        };
        pace.fill(now);
        pace
    }

    /// Begins slowly, since much waits.
    pub fn slow_down(&mut self, now: Timestamp) {
        self.again = Some(now);
        self.at = now;
        self.room = self.rate(now).unwrap_or(FIRST);
    }

    /// Returns how many mails may go now.
    pub fn room(&mut self, now: Timestamp) -> usize {
        self.fill(now);
        match self.rate(now) {
            None => usize::MAX,
            // A float becomes the nearest number that there is.
            Some(_) => self.room as usize,
        }
    }

    /// Notes that one goes.
    pub fn take(&mut self) {
        self.room -= 1.0;
    }

    fn fill(&mut self, now: Timestamp) {
        // A slow start that lies ahead was begun by a clock that has been set back since: it begins anew.
        self.again = self.again.map(|again| again.min(now));
        if let Some(rate) = self.rate(now) {
            let gained = rate * now.since(self.at).as_secs_f64();
            self.room = (self.room + gained).min((rate * BURST.as_secs_f64()).max(1.0));
        }
        self.at = now;
    }

    /// Returns how many mails a second may go; none if there is no limit.
    fn rate(&self, now: Timestamp) -> Option<f64> {
        let steps = self
            .again
            .map(|again| now.since(again).as_secs() / DOUBLES.as_secs());
        let growing = steps.and_then(|steps| u32::try_from(steps).ok());
        let growing = growing
            .filter(|steps| *steps < STEPS)
            .map(|steps| FIRST * f64::from(1 << steps));
        let cap = self.cap.map(f64::from);
        match (growing, cap) {
            (Some(growing), Some(cap)) => Some(growing.min(cap)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    /// Takes all there is, every tenth of a second; returns how many went in each second.
    fn seconds(pace: &mut Pace, n: u64) -> Vec<usize> {
        let second = |s: u64| {
            let tenths = (0..10).map(|tenth| NOW + Duration::from_millis(s * 1000 + tenth * 100));
            let mut took = 0;
            for now in tenths {
                for _ in 0..pace.room(now).min(100_000) {
                    pace.take();
                    took += 1;
                }
            }
            took
        };
        (0..n).map(second).collect()
    }

    #[test]
    fn a_cap_is_held_from_the_first_second_on() {
        let mut pace = Pace::new(Some(5), NOW);
        let went = seconds(&mut pace, 20);
        let total: usize = went.iter().sum();
        assert!(went.iter().all(|n| *n <= 10), "{went:?}");
        assert!((100..=105).contains(&total), "{went:?}");
    }

    #[test]
    fn after_a_rest_the_rate_doubles_every_ten_seconds_up_to_the_cap() {
        let mut pace = Pace::new(Some(100), NOW);
        pace.slow_down(NOW);
        let went = seconds(&mut pace, 60);
        assert!(went[..10].iter().skip(1).all(|n| *n <= 21), "{went:?}");
        assert!(went[11..20].iter().all(|n| *n <= 41), "{went:?}");
        assert!(
            went[40..].iter().all(|n| (99..=101).contains(n)),
            "{went:?}"
        );
    }

    #[test]
    fn without_a_cap_there_is_a_limit_only_after_a_rest() {
        let mut pace = Pace::new(None, NOW);
        assert_eq!(pace.room(NOW), usize::MAX);
        pace.slow_down(NOW);
        assert_eq!(pace.room(NOW), 20);
        assert_eq!(pace.room(NOW + Duration::from_secs(3600)), usize::MAX);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_slow_start_anew_and_does_not_prolong_it() {
        let mut pace = Pace::new(None, NOW);
        pace.slow_down(NOW);
        let earlier = NOW - Duration::from_secs(3600);
        assert_eq!(pace.room(earlier), 20);
        assert_eq!(pace.room(earlier + DOUBLES), 40);
        assert_eq!(pace.room(earlier + DOUBLES * STEPS), usize::MAX);
    }
}
