//! Whether anything that was changed is found, and said where.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the figures are for whoever reads the run"
)]

mod bytes;
mod commands;
mod edits;
pub mod fixture;
mod large;
mod seeded;
mod world;

use crate::support::app::both;

both!(what_flows_wrote_is_intact, |db| {
    let app = fixture::trail(db, 10).await;
    let report = fixture::verified(&app).await;
    assert_eq!(
        (&report.findings[..], &report.notes[..]),
        (&[][..], &[][..])
    );
    assert!(
        report.events > 1400 && report.checkpoints == 20 && report.outside == 21,
        "{report:?}"
    );
    assert_eq!(report.subscribers as usize, app.count("subscriber").await);
});
