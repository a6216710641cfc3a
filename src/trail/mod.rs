//! The trail: what makes the events tamper-evident, pure.
//!
//! | module | holds |
//! |---|---|
//! | [`tree`] | the Merkle tree over the events, its tiles, its proofs |
//! | [`note`] | keys, and checkpoints: the signed word of how large the tree was and what its root |
//!
//! The tree is RFC 6962's, its tiles and checkpoints are those of C2SP, so that auditors need none of our code:
//! `tests/it/interop.rs` and `deploy/verify.py` read them without it.

pub mod note;
pub mod tree;
