//! What the disk takes for one `fdatasync`.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::pairs::quantile;

/// Returns p50 and p99 of overwriting 4 KiB and syncing them, on the file system of the databases.
pub fn fdatasync() -> (Duration, Duration) {
    const BLOCK: [u8; 4096] = [b'x'; 4096];
    let file = tempfile::tempfile().expect("a file");
    for block in 0..256 {
        file.write_all_at(&BLOCK, block * 4096).expect("written");
    }
    file.sync_all().expect("synced");
    let mut times: Vec<u64> = (0..2000)
        .map(|i| {
            let began = Instant::now();
            file.write_all_at(&BLOCK, i % 256 * 4096).expect("written");
            file.sync_data().expect("synced");
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    let mut at = |q| Duration::from_nanos(quantile(&mut times, q));
    (at(0.5), at(0.99))
}
