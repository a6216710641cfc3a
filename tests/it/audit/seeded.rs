//! A closed copy is edited, at random places and in every way that we could think of.

use std::collections::BTreeMap;

use confirmd::flow::audit::report::{Check, Checks, Report};
use tokio::time::Instant;

use super::edits::{Care, Edit, KINDS, Kind};
use super::fixture;
use super::world::{Chance, World};
use crate::support::app::{Db, TestApp, both};

/// Edits of each kind.
const EDITS: usize = 80;
/// A trail of two tiles and four checkpoints: each edit has it verified whole.
const ROUNDS: usize = 2;

pub fn seed() -> u64 {
    let given = std::env::var("CONFIRMD_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("a number"));
    // Each hasher of the standard library begins with random keys.
    use std::hash::{BuildHasher, Hasher, RandomState};
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// Edits, verifies, undoes.
async fn after(app: &TestApp, world: &mut World, edit: &Edit, checks: Checks) -> Report {
    world
        .raw
        .run(&format!("begin; {}; commit", edit.sql.join(";\n")))
        .await;
    let trusted = edit.trusted.as_ref().unwrap_or(&world.trusted).clone();
    let report = fixture::with(app, checks, &trusted).await;
    world.restore(&edit.tables).await;
    report
}

both!(every_edit_is_found, |db| {
    let app = fixture::trail(db, ROUNDS).await;
    let seed = seed();
    println!("audit: CONFIRMD_TEST_SEED={seed} on {db:?}");
    let mut world = World::open(&app).await;
    let mut chance = Chance(seed);
    let before = fixture::verified(&app).await;
    assert_eq!(before.findings, [], "before any edit");
    let begin = Instant::now();
    let mut missed = Vec::new();
    println!(
        "{:<20} {:>6} {:>6} {:>9} {:>12} {:>7}",
        "kind", "plain", "anew", "detected", "index right", "s"
    );
    for (name, make) in KINDS {
        let (mut counts, mut detected, mut right) = ([0, 0], 0, 0);
        let started = Instant::now();
        for n in 0..EDITS {
            let care = [Care::Plain, Care::Recomputed][n % 2];
            counts[n % 2] += 1;
            let edit = make(&world, &mut chance, care);
            let report = after(&app, &mut world, &edit, Checks::default()).await;
            let first = report.first();
            detected += usize::from(first.is_some());
            let is_right = first.is_some_and(|first| edit.place.is(first.at, &world));
            right += usize::from(is_right);
            if !is_right {
                let sql: String = edit.sql.join("; ").chars().take(300).collect();
                missed.push(format!(
                    "{name} {care:?} {n}: {:?}, {first:?}, {sql}",
                    edit.place
                ));
            }
        }
        let [plain, anew] = counts;
        let seconds = started.elapsed().as_secs_f32();
        println!("{name:<20} {plain:>6} {anew:>6} {detected:>9} {right:>12} {seconds:>7.1}");
    }
    println!("{} edits in {:?}", KINDS.len() * EDITS, begin.elapsed());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert_eq!(
        fixture::verified(&app).await.findings,
        [],
        "after all was undone"
    );
});

/// Which check alone sees a kind, when the attacker touches nothing else.
fn alone(db: Db) -> BTreeMap<Check, Vec<&'static str>> {
    let mut kinds = BTreeMap::from([
        (Check::Numbers, vec!["event deleted", "head edited"]),
        (Check::Copies, vec!["copy column edited"]),
        (
            Check::Tree,
            vec!["event changed", "events swapped", "tile edited"],
        ),
        (Check::Checkpoints, vec!["checkpoint edited"]),
        (Check::Outside, vec!["key swapped"]),
        (Check::Evidence, vec!["evidence edited", "evidence deleted"]),
        (
            Check::Replay,
            vec![
                "subscription edited",
                "signup list edited",
                "signup edited",
                "message edited",
            ],
        ),
        (Check::Catalog, vec!["consent text edited"]),
    ]);
    // On SQLite an event up to the head has the number of its place.
    let seen_by = match db {
        Db::Sqlite => Check::Tree,
        Db::Postgres => Check::Numbers,
    };
    kinds.entry(seen_by).or_default().push("event inserted");
    kinds
}

both!(each_check_sees_its_own_kinds_and_no_other, |db| {
    let app = fixture::trail(db, ROUNDS).await;
    let mut world = World::open(&app).await;
    let mut chance = Chance(seed());
    for (check, names) in alone(db) {
        let kinds: Vec<&Kind> = KINDS
            .iter()
            .filter(|(name, _)| names.contains(name))
            .collect();
        assert_eq!(kinds.len(), names.len());
        for (name, make) in kinds {
            for _ in 0..3 {
                let edit = make(&world, &mut chance, Care::Alone);
                for off in Check::ALL {
                    let report =
                        after(&app, &mut world, &edit, Checks::default().without(off)).await;
                    let detected = report.first().is_some();
                    assert_eq!(
                        detected,
                        off != check,
                        "{name}, {off:?} off: {:?}\n{:?}",
                        report.findings,
                        edit.sql
                    );
                }
            }
        }
    }
});
