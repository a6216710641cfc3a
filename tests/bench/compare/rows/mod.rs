//! The rows of the table. A row is one file with a function that runs its pairs and returns what it measured; rows that
//! come out of the same runs share one.

mod delivery;
mod floods;
mod footprint;
mod forged;
pub mod mailed;
mod presses;
mod processes;
mod signups;
mod sizes;
mod soak;
mod stalls;
mod syncs;

use crate::Bench;
use crate::pairs::Measure;

/// What runs rows, by their numbers.
pub type Rows = (&'static [u32], fn(&Bench) -> Vec<Measure>);

/// All rows, in order.
pub const ALL: &[Rows] = &[
    (&[1], signups::on_sqlite),
    (&[2], signups::on_postgres),
    (&[3], mailed::run),
    (&[4], delivery::with_eight),
    (&[5], delivery::with_one),
    (&[6], delivery::into_postfix),
    (&[7], forged::run),
    (&[8], floods::run),
    (&[9, 10], presses::run),
    (&[11], syncs::run),
    (&[12], stalls::run),
    (&[13], sizes::run),
    (&[14, 15], footprint::run),
    (&[14], soak::run),
    (&[16], processes::run),
];
