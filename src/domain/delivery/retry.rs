//! What follows from an attempt: a mail ends, or is tried again at its time.

use std::time::Duration;

use super::{Attempt, MessageState};
use crate::domain::time::Timestamp;

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The mail ends in this state.
    End(MessageState),
    /// It is tried again at this time.
    Retry(Timestamp),
}

/// The longest time for which a mail is tried.
pub const LIFE: Duration = Duration::from_secs(48 * 3600);
/// How long an ambiguous mail waits before its one further attempt.
pub const AMBIGUOUS_WAIT: Duration = Duration::from_secs(30 * 60);
/// Claims in a row without an outcome after which a mail is set aside; before the last of them it is tried alone.
pub const LOST_CLAIMS: i64 = 3;
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);

/// Decides what follows from an attempt.
///
/// `attempts` counts this one; `ambiguous` says how many had no answer to the dot, this one included; `end` is the
/// last moment at which sending makes sense; `jitter` in 0..=255 spreads the wait by a fifth to either side.
pub fn after(
    outcome: Attempt,
    now: Timestamp,
    attempts: u32,
    ambiguous: u32,
    end: Timestamp,
    jitter: u8,
) -> Next {
    let retry = |at: Timestamp, otherwise| {
        if at < end {
            Next::Retry(at)
        } else {
            Next::End(otherwise)
        }
    };
    match outcome {
        Attempt::Sent => Next::End(MessageState::Sent),
        Attempt::Failed => Next::End(MessageState::Failed),
        Attempt::Arrived => Next::End(MessageState::Unknown),
        Attempt::Ambiguous if ambiguous > 1 => Next::End(MessageState::Unknown),
        Attempt::Ambiguous => retry(now + AMBIGUOUS_WAIT, MessageState::Unknown),
        Attempt::Deferred => {
            // A mail that was perhaps sent before is not called failed when its second try cannot be made.
            let gave_up = match ambiguous {
                0 => MessageState::Failed,
                _ => MessageState::Unknown,
            };
            retry(now + spread(wait(attempts), jitter), gave_up)
        }
    }
}

/// 1, 5 and 15 minutes, then doubling up to 4 hours.
fn wait(attempts: u32) -> Duration {
    match attempts {
        0 | 1 => Duration::from_secs(60),
        2 => Duration::from_secs(300),
        n => Duration::from_secs(900)
            .saturating_mul(1 << (n - 3).min(10))
            .min(LONGEST_WAIT),
    }
}

/// Returns the longest wait for a next attempt.
pub fn longest_wait() -> Duration {
    spread(LONGEST_WAIT, u8::MAX)
}

/// Spreads a wait by a fifth to either side; `jitter` is random.
pub fn spread(wait: Duration, jitter: u8) -> Duration {
    wait.mul_f64(0.8 + 0.4 * f64::from(jitter) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_four_hours_and_end_with_the_link() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let end = now + LIFE;
        let minutes: Vec<u64> = (1..10)
            .map(|n| match after(Attempt::Deferred, now, n, 0, end, 128) {
                Next::Retry(at) => (at.since(now).as_secs() + 29) / 60,
                Next::End(_) => 0,
            })
            .collect();
        assert_eq!(minutes, [1, 5, 15, 30, 60, 120, 240, 240, 240]);
        let late = end - Duration::from_secs(30);
        assert_eq!(
            after(Attempt::Deferred, late, 1, 0, end, 128),
            Next::End(MessageState::Failed)
        );
        assert_eq!(
            after(Attempt::Deferred, late, 2, 1, end, 128),
            Next::End(MessageState::Unknown)
        );
    }

    #[test]
    fn what_was_perhaps_sent_is_tried_once_more_and_not_soon() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let end = now + LIFE;
        assert_eq!(
            after(Attempt::Ambiguous, now, 1, 1, end, 0),
            Next::Retry(now + AMBIGUOUS_WAIT)
        );
        assert_eq!(
            after(Attempt::Ambiguous, now, 2, 2, end, 0),
            Next::End(MessageState::Unknown)
        );
    }
}
