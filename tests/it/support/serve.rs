//! The program itself beside a [`TestApp`], on the same database: commands, and `serve` with the statements that it runs.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;

use super::app::{TestApp, environment};
use super::out;

/// Runs one command to its end.
pub fn command(app: &TestApp, words: &[&str]) -> Output {
    let mut program = program(app);
    let done = program.args(words).output().expect("the program starts");
    if let Some(mut log) = out::log("confirmd-command") {
        // What these two answer holds an address or a key: that is what they are for.
        if !matches!(words[0], "key" | "subscriber") {
            log.write_all(&done.stdout).expect("a log");
        }
        log.write_all(&done.stderr).expect("a log");
    }
    done
}

fn program(app: &TestApp) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_confirmd"));
    program
        .env_clear()
        .envs(environment(&app.dir, &app.url, app.peer.addr()))
        .env("CONFIRMD_CONFIG", app.dir.path().join("confirmd.toml"))
        .stdin(Stdio::null());
    program
}

/// One statement that the database ran: its text, the rows that it wrote and the rows that it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    pub wrote: u64,
    pub gave: u64,
}

/// A running `confirmd serve` that logs its statements; killed when dropped.
#[derive(Debug)]
pub struct Serve {
    process: Child,
    lines: Lines<BufReader<ChildStderr>>,
    pub addr: SocketAddr,
}

impl Serve {
    /// Starts it; [`TestApp::end`] must have been called before on SQLite, whose file serves one daemon.
    pub fn start(app: &TestApp) -> Serve {
        let mut process = program(app)
            .arg("serve")
            .env("CONFIRMD_LOG__FORMAT", "json")
            .env("CONFIRMD_LOG__FILTER", "info,sqlx::query=debug")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let addr = loop {
            let line = next(&mut lines);
            if let Some(addr) = line["http"].as_str() {
                break addr.parse().expect("an address");
            }
        };
        Serve {
            process,
            lines,
            addr,
        }
    }

    /// Reads the log up to the first line of this message and returns the statements before it.
    pub fn statements_until(&mut self, message: &str) -> Vec<Statement> {
        let mut statements = Vec::new();
        loop {
            let line = next(&mut self.lines);
            if line["message"] == message {
                return statements;
            }
            if line["target"] == "sqlx::query" {
                let words = |name: &str| line[name].as_str().unwrap_or_default().trim().to_owned();
                let number = |name: &str| line[name].as_u64().expect("a number");
                let text = match words("db.statement") {
                    text if text.is_empty() => words("summary"),
                    text => text,
                };
                // On SQLite several go out together: of these only the last one answers, and how many rows each wrote is
                // not told.
                let parts = text.split(';').map(str::trim);
                let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
                let (last, alone) = (parts.len() - 1, parts.len() == 1);
                let parts = parts.iter().enumerate();
                let parts = parts.filter(|(_, part)| !["begin immediate", "commit"].contains(part));
                statements.extend(parts.map(|(place, part)| Statement {
                    text: (*part).to_owned(),
                    wrote: if alone { number("rows_affected") } else { 0 },
                    gave: if place == last {
                        number("rows_returned")
                    } else {
                        0
                    },
                }));
            }
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn next(lines: &mut Lines<BufReader<ChildStderr>>) -> Value {
    let line = lines.next().expect("it serves").expect("UTF-8");
    if let Some(mut log) = out::log("confirmd-serve") {
        writeln!(log, "{line}").expect("a log");
    }
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}
