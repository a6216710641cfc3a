//! What the tests stand on.

pub mod app;
pub mod chance;
pub mod daemon;
pub mod driver;
pub mod http;
pub mod links;
pub mod mail;
pub mod out;
pub mod patience;
pub mod peer;
pub mod pooler;
pub mod postgres;
pub mod process;
pub mod receiver;
pub mod serve;
pub mod sink;
pub mod small_disk;
pub mod source;
pub mod sql;
pub mod strace;
pub mod webdriver;
