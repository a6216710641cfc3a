//! The trail: what makes the events tamper-evident, pure.
//!
//! | module | holds |
//! |---|---|
//! | [`leaf`] | the bytes of an event |
//! | [`tree`] | the Merkle tree over the events, its tiles, its proofs |
//! | [`note`] | checkpoints, signed |
//!
//! The tree is RFC 6962's, its tiles and checkpoints are those of C2SP, so that auditors need none of our code:
//! `tests/it/interop.rs` and `deploy/verify.py` read them without it.

pub mod leaf;
pub mod note;
pub mod tree;
