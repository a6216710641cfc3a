<<<<<<< HEAD
//! The integration tests, one binary.

mod config;
mod listen;
mod smtp;
mod support;
=======
mod mails;
>>>>>>> mail
