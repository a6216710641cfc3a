//! The file of a SQLite database, edited byte by byte by somebody without any database program.

use std::fs;

use confirmd::flow::audit::report::{At, Checks};
use confirmd::flow::audit::{Subject, verify};
use confirmd::store::connect::{Location, connect};

use super::fixture::{self, ORIGIN};
use super::seeded::seed;
use super::world::{Chance, World, seq};
use crate::support::app::Db;

const EDITS: usize = 80;

fn places(of: &[u8], within: &[u8]) -> Vec<usize> {
    let windows = within.windows(of.len()).enumerate();
    windows
        .filter(|(_, window)| *window == of)
        .map(|(at, _)| at)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_an_event_counts() {
    let app = fixture::trail(Db::Sqlite, 1).await;
    let seed = seed();
    println!("audit: CONFIRMD_TEST_SEED={seed} on a file");
    let mut chance = Chance(seed);
    let mut world = World::open(&app).await;
    world.raw.run("pragma wal_checkpoint(truncate)").await;
    let file = fs::read(app.dir.path().join("confirmd.db")).expect("the file");
    let path = app.dir.path().join("edited.db");
    let copy = fixture::copy(&app);
    let mut right = 0;
    for _ in 0..EDITS {
        // Twice in the file: as it is, and in the table that undoes edits. The free pages hold nothing.
        let (row, found) = loop {
            let row = chance.pick(&world.events[..world.signed()]);
            let found = places(&row.leaf, &file);
            if found.len() == 2 {
                break (row, found);
            }
        };
        let at = chance.below(row.leaf.len());
        let bit = 1 << chance.below(8);
        let mut edited = file.clone();
        for place in found {
            edited[place + at] ^= bit;
        }
        fs::write(&path, edited).expect("a file");
        let pool = connect(&Location::Sqlite(path.clone()), 2)
            .await
            .expect("it opens");
        let subject = Subject {
            pool: &pool,
            origin: ORIGIN,
            trusted: &world.trusted,
            copy: Some(&copy),
        };
        let report = verify(&subject, Checks::default(), None, &mut |_| {}).await;
        let report = report.expect("it can be looked at");
        pool.close().await;
        let first = report.first();
        assert!(first.is_some(), "event {} byte {at} bit {bit}", seq(row));
        right += usize::from(first.is_some_and(|first| first.at == At::Event(seq(row))));
    }
    println!("{EDITS} bytes edited, all detected, index right {right}");
    assert_eq!(right, EDITS);
}
