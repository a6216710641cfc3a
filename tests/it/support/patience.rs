//! Waiting for what happens by itself: it is looked at again and again, until a deadline that only a failure reaches.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, interval};

/// Long enough for any machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(20);

/// Looks until it sees what is waited for, and returns that. A look that does not see it says what there is instead.
pub async fn seen<T, F: Display>(what: &str, mut look: impl AsyncFnMut() -> Result<T, F>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut again = interval(AGAIN);
    loop {
        again.tick().await;
        match look().await {
            Ok(seen) => return seen,
            Err(found) => assert!(Instant::now() < end, "waited for {what}, found {found}"),
        }
    }
}
