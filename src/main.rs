//! The program `confirmd`.
fn main() {}
