//! A hundred thousand events.

use confirmd::clock::random;
use confirmd::domain::event::{Event, EventKind};
use confirmd::store::trail::Kept;
use tokio::time::Instant;

use super::fixture;
use crate::support::app::{TestApp, both};

const EVENTS: usize = 100_000;
const BATCH: usize = 1000;

both!(a_hundred_thousand_events_are_intact, |db| {
    let app = TestApp::start(db).await;
    let begin = Instant::now();
    let sender = "acme".parse().expect("a name");
    for batch in 0..EVENTS / BATCH {
        let event = |n| {
            let event = Event::of(
                random(),
                EventKind::KeyCreated,
                app.clock.now(),
                Some(&sender),
            );
            event.with("batch", batch).with("n", n)
        };
        let events: Vec<Event> = (0..BATCH).map(event).collect();
        let mut tx = app.flows.pool.begin().await.expect("the database works");
        tx.append(&events).await.expect("appended");
        tx.commit().await.expect("the database works");
        if batch % 10 == 9 {
            fixture::sign(&app).await;
        }
    }
    println!(
        "audit: {EVENTS} events on {db:?} made in {:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    let report = fixture::verified(&app).await;
    println!("audit: verified in {:?}", begin.elapsed());
    assert_eq!(
        (&report.findings[..], &report.notes[..]),
        (&[][..], &[][..])
    );
    assert!(
        report.events > EVENTS as u64 && report.signed == report.events,
        "{report:?}"
    );
    assert_eq!(report.checkpoints, 10);
    let last: Option<Kept> = app
        .flows
        .pool
        .read()
        .await
        .unwrap()
        .last_checkpoint()
        .await
        .unwrap();
    assert_eq!(last.map(|kept| kept.size), Some(report.events));
});
