//! The only reader of the wall clock and of the system's random generator.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the place where time and chance come in"
)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::domain::time::Timestamp;

/// Tells the time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until a test moves it; microseconds since 1970.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// Makes a clock that stands at an instant.
    pub fn fixed(at: Timestamp) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(at.as_micros())))
    }

    /// Returns the current instant.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
            Clock::Fixed(at) => Timestamp::from_micros(at.load(Ordering::SeqCst)),
        }
    }

    /// Returns an instant that no step of the machine's clock moves: that of a first look, and the time that has passed since.
    pub fn steady(&self) -> Timestamp {
        static FIRST: OnceLock<(Timestamp, Instant)> = OnceLock::new();
        match self {
            Clock::System => {
                let (at, began) = FIRST.get_or_init(|| (self.now(), Instant::now()));
                *at + began.elapsed()
            }
            Clock::Fixed(_) => self.now(),
        }
    }

    /// Moves a fixed clock forward; the machine's clock does not follow.
    pub fn advance(&self, by: Duration) {
        if let Clock::Fixed(at) = self {
            let now = Timestamp::from_micros(at.load(Ordering::SeqCst));
            at.store((now + by).as_micros(), Ordering::SeqCst);
        }
    }
}

/// Returns random bytes from the operating system.
///
/// # Panics
/// When the operating system has none to give; nothing that confirmd does is safe then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
