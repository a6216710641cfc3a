//! What the tests stand on.

pub mod out;
pub mod peer;
pub mod postgres;
pub mod process;
pub mod source;
pub mod webdriver;
