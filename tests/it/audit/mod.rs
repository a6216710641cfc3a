//! Whether anything that was changed is found, and said where.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the figures are for whoever reads the run"
)]

mod edits;
mod fixture;
mod seeded;
mod world;

use crate::support::app::both;

both!(what_flows_wrote_is_intact, |db| {
    let app = fixture::trail(db).await;
    let report = fixture::verified(&app).await;
    assert_eq!(
        (&report.findings[..], &report.notes[..]),
        (&[][..], &[][..])
    );
    assert!(
        report.events > 1000 && report.checkpoints == 6 && report.outside == 7,
        "{report:?}"
    );
    assert_eq!(report.subscribers as usize, app.count("subscriber").await);
});
