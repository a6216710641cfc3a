mod config;
mod listen;
