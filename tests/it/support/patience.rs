//! Waiting for what happens by itself: it is looked at again and again, until a deadline that only a failure reaches.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{interval, timeout};

const AGAIN: Duration = Duration::from_millis(20);

/// Looks until it sees what is waited for, and returns that. A look that does not see it says what there is instead; one
/// that hangs is cut off.
pub async fn seen<T, F: Display>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, F>,
) -> T {
    let mut again = interval(AGAIN);
    let mut found = None;
    let looking = async {
        loop {
            again.tick().await;
            match look().await {
                Ok(seen) => return seen,
                Err(instead) => found = Some(instead),
            }
        }
    };
    let seen = timeout(within, looking).await;
    seen.unwrap_or_else(|_| {
        let found = found.map_or("nothing".to_owned(), |found| found.to_string());
        panic!("waited {within:?} for {what}, found {found}")
    })
}
