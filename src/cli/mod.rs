//! The command line: one file a command. `serve` is the only place that builds things.

#[macro_use]
mod out;

mod audit;
mod backup;
mod check;
mod clock;
mod demo;
mod events;
mod key;
mod keyring;
mod message;
mod open;
mod partial;
mod reload;
mod restore;
pub mod serve;
mod settings;
mod stats;
mod subscriber;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Config;

/// The double opt-in confirmation daemon.
///
/// Exit codes: 0 done, 1 a check or a lookup said no, 2 the command or the configuration cannot be used or an answer not be
/// written, 3 the service ended because something broke.
#[derive(Debug, Parser)]
#[command(name = "confirmd", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    source: Source,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct Source {
    /// The configuration file; environment variables CONFIRMD_SECTION__KEY win over it
    #[arg(
        long,
        short,
        env = "CONFIRMD_CONFIG",
        global = true,
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
}

impl Source {
    fn load(&self) -> anyhow::Result<Config> {
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => env.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("CONFIRMD_") => {
                    bail!("the environment's {name} is not UTF-8");
                }
                // Somebody else's.
                _ => {}
            }
        }
        Ok(Config::load(self.config.as_deref(), env.into_iter())?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows all of confirmd on this machine, with a mailbox of its own; needs no configuration and reads none
    Demo(demo::Args),
    /// Runs the service until SIGTERM or SIGINT; SIGHUP reloads senders, lists, templates and keys
    Serve,
    /// Looks whether everything is in order, one line a check, without changing anything
    Check(check::Args),
    /// Makes, lists and revokes API keys
    #[command(subcommand)]
    Key(key::Command),
    /// Says what is known of an address
    #[command(subcommand)]
    Subscriber(subscriber::Command),
    /// Reads the trail
    #[command(subcommand)]
    Events(events::Command),
    /// Looks whether the trail is what was signed
    #[command(subcommand)]
    Audit(audit::Command),
    /// Shows the mails that are set aside, and queues them again
    #[command(subcommand)]
    Message(message::Command),
    /// Believes a clock that has jumped
    #[command(subcommand)]
    Clock(clock::Command),
    /// Says how much there is and what waits
    Stats(stats::Stats),
    /// Shows and changes the keys that sign links and checkpoints
    #[command(subcommand)]
    Keyring(keyring::Command),
    /// Copies the database (SQLite) while the service runs, verifies the copy, and names the keys that it needs
    Backup(backup::Args),
    /// Puts a backup in the place of a database that was lost, so that nobody who left since is mailed again
    ///
    /// Signups and links work at once. Eligibility answers `restored` for everybody until every leave since the backup was
    /// done again (--replay EVENTS --complete), or `confirmd audit epoch --accept-window` lapses every consent from before.
    /// The key files that the backup names must be in keys.dir. On PostgreSQL: pg_restore, then --in-place.
    Restore(restore::Args),
}

/// How a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: JSON, one object a line
    Json,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exit {
    Done = 0,
    No = 1,
    Unusable = 2,
    Broke = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    serve::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error.into()),
    };
    match done.and_then(|exit| out::finish().map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            errln!("confirmd: {error:#}");
            Exit::Unusable.into()
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let source = cli.source;
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve => {
            let config = source.load()?;
            serve::command(source, config).await
        }
        Command::Check(args) => check::run(args, &source.load()?).await,
        Command::Key(command) => key::run(command, &source.load()?).await,
        Command::Subscriber(command) => subscriber::run(command, &source.load()?).await,
        Command::Events(command) => events::run(command, &source.load()?).await,
        Command::Message(command) => message::run(command, &source.load()?).await,
        Command::Clock(command) => clock::run(command, &source.load()?).await,
        Command::Stats(args) => stats::run(args, &source.load()?).await,
        Command::Audit(command) => audit::run(command, &source).await,
        Command::Keyring(command) => keyring::run(command, &source.load()?).await,
        Command::Backup(args) => backup::run(args, &source.load()?).await,
        Command::Restore(args) => restore::run(args, &source.load()?).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
