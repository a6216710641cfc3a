//! What makes the trail tamper-evident, pure: the bytes of events, the tree over them, what is signed.

pub mod leaf;
