//! Whose turn it is at a relay: no recipient domain may keep the others waiting.

use std::collections::HashMap;
use std::time::Duration;

/// A domain is slow when a mail to it takes longer than this, and than so many usual ones.
const SLOW: Duration = Duration::from_secs(5);
const USUAL: u32 = 8;
/// Sessions of a domain that is known to be slow.
const SLOW_SESSIONS: usize = 1;
/// Domains that are remembered; when there are more, all are learned anew.
const REMEMBERED: usize = 10_000;

/// The sessions of one relay, and what is known of the domains that they serve.
#[derive(Clone, Debug)]
pub struct Turns {
    sessions: usize,
    /// Mails under way, by domain.
    running: HashMap<String, usize>,
    /// Whether the last mail took long.
    slow: HashMap<String, bool>,
    /// What a mail takes, as a moving average.
    usual: Duration,
}

impl Turns {
    /// Begins with so many sessions.
    pub fn new(sessions: usize) -> Self {
        Self {
            sessions,
            running: HashMap::new(),
            slow: HashMap::new(),
            usual: Duration::ZERO,
        }
    }

    /// Returns how many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Tells whether every session is in use.
    pub fn are_all_taken(&self) -> bool {
        self.running.values().sum::<usize>() >= self.sessions
    }

    /// Tells whether a mail may begin.
    ///
    /// A domain that has shown itself quick gets most sessions. Those that are slow, or not known, share half of them.
    pub fn may_begin(&self, domain: &str) -> bool {
        let own = self.running.get(domain).copied().unwrap_or(0);
        let half = self.half();
        let most = match self.slow.get(domain) {
            Some(false) => self.sessions - self.sessions / 4,
            Some(true) => SLOW_SESSIONS,
            None => half,
        };
        let not_quick = || self.running_where(|domain| !self.is_quick(domain));
        !self.are_all_taken() && own < most && (self.is_quick(domain) || not_quick() < half)
    }

    /// Notes that a mail begins.
    pub fn begin(&mut self, domain: &str) {
        *self.running.entry(domain.to_owned()).or_insert(0) += 1;
    }

    /// Notes that a mail has ended, and how long it took if that says something about its domain.
    pub fn end(&mut self, domain: &str, took: Option<Duration>) {
        if let Some(running) = self.running.get_mut(domain) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(domain);
            }
        }
        if let Some(took) = took {
            self.know(domain, took > self.patience());
            self.usual = (self.usual * 15 + took) / 16;
        }
    }

    /// Notes that a mail under way takes long.
    pub fn drags(&mut self, domain: &str) {
        self.know(domain, true);
    }

    /// Returns how long a mail may take until its domain is slow.
    pub fn patience(&self) -> Duration {
        SLOW.max(self.usual * USUAL)
    }

    /// Tells whether a domain has shown itself quick.
    pub fn is_quick(&self, domain: &str) -> bool {
        self.slow.get(domain) == Some(&false)
    }

    /// Tells whether a domain has shown itself slow.
    pub fn is_slow(&self, domain: &str) -> bool {
        self.slow.get(domain) == Some(&true)
    }

    /// Tells whether a mail would only wait behind those that hang: of its own domain, or in every session that is left to
    /// domains that are not known to be quick.
    pub fn is_held_up(&self, domain: &str) -> bool {
        self.is_slow(domain) || !self.is_quick(domain) && self.are_slow_ones_stuck()
    }

    /// Tells whether a mail to one domain waits for the same sessions as one to another that is held up.
    pub fn is_behind(&self, domain: &str, held_up: &str) -> bool {
        match self.are_slow_ones_stuck() {
            true => !self.is_quick(domain),
            false => domain == held_up,
        }
    }

    /// Tells whether slow domains have all sessions that they share with unknown ones.
    fn are_slow_ones_stuck(&self) -> bool {
        self.running_where(|domain| self.is_slow(domain)) >= self.half()
    }

    fn know(&mut self, domain: &str, slow: bool) {
        if self.slow.len() >= REMEMBERED && !self.slow.contains_key(domain) {
            self.slow.clear();
        }
        self.slow.insert(domain.to_owned(), slow);
    }

    fn half(&self) -> usize {
        (self.sessions / 2).max(1)
    }

    fn running_where(&self, which: impl Fn(&str) -> bool) -> usize {
        let running = self.running.iter();
        let running = running.filter(|(domain, _)| which(domain));
        running.map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Option<Duration> = Some(Duration::from_millis(5));

    fn begins(turns: &mut Turns, domain: &str) -> usize {
        let mut n = 0;
        while turns.may_begin(domain) {
            turns.begin(domain);
            n += 1;
        }
        n
    }

    #[test]
    fn fifty_slow_domains_leave_half_the_sessions_to_a_quick_one() {
        let mut turns = Turns::new(8);
        turns.begin("quick.example");
        turns.end("quick.example", QUICK);
        let taken: usize = (0..50)
            .map(|i| begins(&mut turns, &format!("tarpit-{i}.example")))
            .sum();
        assert_eq!(taken, 4);
        assert_eq!(begins(&mut turns, "quick.example"), 4);
    }

    #[test]
    fn a_domain_is_quick_after_its_first_mail_and_never_takes_all() {
        let mut turns = Turns::new(8);
        assert_eq!(begins(&mut turns, "a.example"), 4);
        turns.end("a.example", QUICK);
        assert_eq!(begins(&mut turns, "a.example"), 3);
        assert_eq!(begins(&mut turns, "b.example"), 2);
    }

    #[test]
    fn a_domain_that_drags_gets_one_session_until_it_is_quick_again() {
        let mut turns = Turns::new(8);
        turns.begin("a.example");
        turns.drags("a.example");
        assert!(turns.is_slow("a.example") && !turns.may_begin("a.example"));
        turns.end("a.example", Some(Duration::from_secs(30)));
        assert_eq!(begins(&mut turns, "a.example"), 1);
        turns.end("a.example", QUICK);
        assert_eq!(begins(&mut turns, "a.example"), 6);
    }

    #[test]
    fn where_slow_domains_have_their_half_an_unknown_one_is_held_up() {
        let mut turns = Turns::new(8);
        for i in 0..4 {
            let domain = format!("tarpit-{i}.example");
            turns.begin(&domain);
            assert!(!turns.is_held_up("unknown.example"), "{i} hang");
            turns.drags(&domain);
        }
        assert!(turns.is_held_up("unknown.example"));
        turns.begin("quick.example");
        turns.end("quick.example", QUICK);
        assert!(!turns.is_held_up("quick.example"));
        turns.end("tarpit-0.example", None);
        assert!(!turns.is_held_up("unknown.example"));
        assert!(turns.is_held_up("tarpit-0.example"));
    }

    #[test]
    fn where_every_mail_takes_long_none_is_slow() {
        let mut turns = Turns::new(8);
        for _ in 0..40 {
            turns.begin("a.example");
            turns.end("a.example", Some(Duration::from_secs(6)));
        }
        assert!(turns.is_quick("a.example"));
    }

    #[test]
    fn one_session_serves_everybody() {
        let mut turns = Turns::new(1);
        assert_eq!(begins(&mut turns, "a.example"), 1);
        turns.end("a.example", QUICK);
        assert_eq!(begins(&mut turns, "a.example"), 1);
    }
}
