//! The delivery engine's decisions in a world where everything goes wrong, under virtual time.
//!
//! Processes crash, freeze and come back late, relays are down, refuse, put off, lose their last answer and are slow for
//! some domains. The decisions are the engine's own; the queue with its claims and leases is a model of what the store
//! does. After each step the world is looked at; whatever goes wrong comes with its seed.

mod process;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::MessageState;
use super::breaker::{Breaker, Sign};
use super::pace::Pace;
use super::retry::LIFE;
use super::turns::Turns;
use crate::domain::time::Timestamp;

/// Without optimisation a part of them does; tests/it/planted.rs runs them all.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 1000 };
const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const LONGEST_TROUBLE: Duration = Duration::from_secs(60 * 3600);
const LEASE: Duration = Duration::from_secs(25 * 60);
const SESSIONS: usize = 4;
const BATCH: usize = 20;
const CAP: u32 = 10;
/// Mails that a relay that is down may cost an attempt each time it goes down: those under way and the failures that open
/// the breaker, and the same once more for each mail that began before and still ends well.
const FIND_OUT: usize = (SESSIONS + 3) * (SESSIONS + 1);

/// A small generator of numbers (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn within(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(1 + longest.as_millis() as u64))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Works,
    Down,
    Refuses,
    PutsOff,
    LosesAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Look(usize, u64),
    Knocked(usize, u64, Mode),
    End(usize, u64, Trial),
    Turn(Mode),
    Crash(usize),
    Freeze(usize, Duration),
}

/// One attempt under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trial {
    mail: usize,
    claim: u64,
    mode: Mode,
    began: Timestamp,
    kept: bool,
}

#[derive(Clone, Debug)]
struct Mail {
    domain: String,
    state: MessageState,
    due: Timestamp,
    claim: u64,
    lease: Timestamp,
    first: Option<Timestamp>,
    attempts: u32,
    ambiguous: u32,
    lost: i64,
    /// Not to be begun before, since it was perhaps sent.
    not_before: Timestamp,
    copies: u32,
    /// Copies whose fate nobody could write down.
    unsaid: u32,
    /// Claims that were taken from somebody.
    freed: u32,
}

struct Process {
    life: u64,
    frozen: Timestamp,
    breaker: Breaker,
    pace: Pace,
    turns: Turns,
    waiting: VecDeque<(usize, u64)>,
    running: BTreeMap<usize, Trial>,
    took: VecDeque<Timestamp>,
    /// Mails that the relay's being down has cost since it last worked.
    cost: usize,
}

impl Process {
    fn new(life: u64, now: Timestamp) -> Self {
        Self {
            life,
            frozen: now,
            breaker: Breaker::default(),
            pace: Pace::new(Some(CAP), now),
            turns: Turns::new(SESSIONS),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            took: VecDeque::new(),
            cost: 0,
        }
    }
}

struct World {
    seed: u64,
    chance: Chance,
    now: Timestamp,
    mode: Mode,
    mails: Vec<Mail>,
    processes: Vec<Process>,
    /// What is to come, with a number that keeps the order of what comes at once.
    heap: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    numbers: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mails = 30 + chance.below(200);
        let mail = |chance: &mut Chance| Mail {
            domain: match chance.below(10) {
                0 => format!("slow-{}.example", chance.below(8)),
                _ => format!("quick-{}.example", chance.below(3)),
            },
            state: MessageState::Queued,
            due: START + chance.within(HOUR),
            claim: 0,
            lease: START,
            first: None,
            attempts: 0,
            ambiguous: 0,
            lost: 0,
            not_before: START,
            copies: 0,
            unsaid: 0,
            freed: 0,
        };
        let mails = (0..mails).map(|_| mail(&mut chance)).collect();
        let processes: Vec<_> = (0..1 + chance.below(3))
            .map(|life| Process::new(life, START))
            .collect();
        let mut world = Self {
            seed,
            chance,
            now: START,
            mode: Mode::Works,
            mails,
            processes,
            heap: BinaryHeap::new(),
            numbers: 1000,
        };
        for process in 0..world.processes.len() {
            let life = world.processes[process].life;
            world.after(Duration::ZERO, Happening::Look(process, life));
        }
        world.plan_faults();
        world
    }

    /// Lets things go wrong for a while; then the relay works, and nobody dies any more.
    fn plan_faults(&mut self) {
        if self.chance.below(16) == 0 {
            // Longer than a mail lives: some were perhaps sent, and from then on all are put off.
            self.after(HOUR, Happening::Turn(Mode::LosesAnswer));
            self.after(HOUR + 20 * MINUTE, Happening::Turn(Mode::PutsOff));
            return self.after(LONGEST_TROUBLE, Happening::Turn(Mode::Works));
        }
        for _ in 0..self.chance.below(12) {
            let mode = match self.chance.below(8) {
                0 | 1 => Mode::Down,
                2 => Mode::Refuses,
                3 => Mode::PutsOff,
                4 => Mode::LosesAnswer,
                _ => Mode::Works,
            };
            let at = self.chance.within(8 * HOUR);
            self.after(at, Happening::Turn(mode));
        }
        for _ in 0..self.chance.below(6) {
            let process = self.chance.below(self.processes.len() as u64) as usize;
            let at = self.chance.within(8 * HOUR);
            let happening = match self.chance.below(2) {
                0 => Happening::Crash(process),
                _ => Happening::Freeze(process, self.chance.within(90 * MINUTE)),
            };
            self.after(at, happening);
        }
        self.after(8 * HOUR, Happening::Turn(Mode::Works));
    }

    fn after(&mut self, wait: Duration, happening: Happening) {
        self.numbers += 1;
        self.heap
            .push(Reverse((self.now + wait, self.numbers, happening)));
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, happening))) = self.heap.pop() {
            self.now = at;
            self.happen(happening);
            self.look_at_it();
            if self.mails.iter().all(|mail| is_over(mail.state)) {
                break;
            }
            let late = self.now.since(START) > LONGEST_TROUBLE + LIFE;
            assert!(
                !late,
                "seed {}: mails still wait: {:?}",
                self.seed, self.mails
            );
        }
        for mail in &self.mails {
            let seed = self.seed;
            assert!(is_over(mail.state), "seed {seed}: {mail:?}");
            let sent = mail.state == MessageState::Sent;
            assert!(
                !sent || mail.copies > 0,
                "seed {seed}: sent, not there: {mail:?}"
            );
            let failed = mail.state == MessageState::Failed;
            assert!(
                !failed || mail.copies <= mail.unsaid,
                "seed {seed}: there, not sent: {mail:?}"
            );
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Turn(mode) => {
                self.mode = mode;
                self.processes.iter_mut().for_each(|p| p.cost = 0);
            }
            Happening::Crash(process) => self.crash(process),
            Happening::Freeze(process, how_long) => {
                self.processes[process].frozen = self.now + how_long;
            }
            Happening::Look(process, life)
            | Happening::Knocked(process, life, _)
            | Happening::End(process, life, _)
                if self.processes[process].life == life =>
            {
                let frozen = self.processes[process].frozen;
                if frozen > self.now {
                    let wait = frozen.since(self.now);
                    return self.after(wait, happening);
                }
                match happening {
                    Happening::Look(..) => self.look(process),
                    Happening::Knocked(_, _, mode) => {
                        let sign = match mode {
                            Mode::Down | Mode::Refuses => Sign::Fails,
                            _ => Sign::Answers,
                        };
                        self.note(process, sign);
                    }
                    Happening::End(_, _, trial) => self.end(process, trial),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// What must hold at every moment.
    fn look_at_it(&mut self) {
        let seed = self.seed;
        for one in &mut self.processes {
            while one
                .took
                .front()
                .is_some_and(|at| self.now.since(*at) > 10 * SECOND)
            {
                one.took.pop_front();
            }
            // Ten seconds' worth, and what may go at once.
            let most = 11 * CAP as usize + 1;
            assert!(
                one.took.len() <= most,
                "seed {seed}: {} mails in ten seconds",
                one.took.len()
            );
            assert!(
                one.running.len() <= SESSIONS,
                "seed {seed}: too many sessions"
            );
            assert!(
                one.cost <= FIND_OUT,
                "seed {seed}: a dead relay cost {} attempts",
                one.cost
            );
        }
        for mail in &self.mails {
            // One, one more where the answer was lost, and one for each holder that did not come back in time.
            let most = 1 + mail.ambiguous.min(1) + mail.freed;
            assert!(
                mail.copies <= most,
                "seed {seed}: too many copies: {mail:?}"
            );
            assert!(mail.ambiguous <= 2, "seed {seed}: {mail:?}");
        }
    }
}

fn is_over(state: MessageState) -> bool {
    !matches!(state, MessageState::Queued | MessageState::Claimed)
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let given = std::env::var("CONFIRMD_TEST_SEED").ok();
    let seeds = match given.and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    for seed in seeds {
        World::new(seed).run();
    }
}
