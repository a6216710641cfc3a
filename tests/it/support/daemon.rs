//! The real program as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::app::LISTS;
use super::out;

const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAM: &str = env!("CARGO_BIN_EXE_confirmd");

/// A running `confirmd serve`; killed when dropped.
pub struct Daemon {
    child: Child,
    /// The API and the pages.
    pub addr: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

/// Writes a configuration with the usual lists and short SMTP timeouts; `settings` are further whole sections.
pub fn config(dir: &Path, url: &str, relay: SocketAddr, settings: &str) -> PathBuf {
    let file = dir.join("confirmd.toml");
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
public_url = "https://lists.acme.example"
[ops]
listen = "127.0.0.1:0"
[database]
url = "{url}"
[keys]
dir = "{dir}/keys"
[log]
format = "json"
[delivery]
lease_margin = "1 s"
[smtp]
host = "{host}"
port = {port}
tls = "none"
[smtp.timeouts]
connect = "4 s"
greeting = "4 s"
hello = "4 s"
mail = "4 s"
rcpt = "4 s"
data = "4 s"
body = "4 s"
dot = "4 s"
{settings}
{LISTS}
"#,
        dir = dir.display(),
        host = relay.ip(),
        port = relay.port(),
    );
    std::fs::write(&file, text).expect("a file");
    file
}

/// Runs a command of the program to its end.
pub fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    let output = command.arg("--config").arg(config).args(arguments).output();
    output.expect("the program starts")
}

/// Makes an API key of `acme` with the scope `signup`.
pub fn make_key(config: &Path) -> String {
    let made = run(
        config,
        &["key", "create", "--sender", "acme", "--scope", "signup"],
    );
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let key = String::from_utf8(made.stdout)
        .expect("UTF-8")
        .trim()
        .to_owned();
    out::secret(&key);
    key
}

impl Daemon {
    /// Starts the service and waits until it says where it listens.
    pub async fn start(config: &Path) -> Daemon {
        let mut child = Command::new(PROGRAM)
            .arg("--config")
            .arg(config)
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (found, listens) = oneshot::channel();
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut log = out::log("serve");
            let mut found = Some(found);
            for line in lines.map_while(Result::ok) {
                if let Some(log) = &mut log {
                    writeln!(log, "{line}").expect("a log is kept");
                }
                let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let address = json["http"].as_str().and_then(|text| text.parse().ok());
                if let (Some(address), Some(found)) =
                    (address, found.take_if(|_| address.is_some()))
                {
                    let _: Result<(), SocketAddr> = found.send(address);
                }
                heard.lock().expect("no panic").push(line);
            }
        });
        let addr = match timeout(PATIENCE, listens).await {
            Ok(Ok(addr)) => addr,
            _ => panic!("it does not serve: {:?}", said.lock().expect("no panic")),
        };
        Daemon { child, addr, said }
    }

    /// Returns how many log lines hold a text.
    pub fn lines_with(&self, text: &str) -> usize {
        let said = self.said.lock().expect("no panic");
        said.iter().filter(|line| line.contains(text)).count()
    }

    /// Kills the process at once (SIGKILL), by its handle.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ended");
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    pub async fn term(mut self) -> ExitStatus {
        self.signal("TERM");
        let pid = self.child.id();
        let (ended, end) = oneshot::channel();
        let mut child = std::mem::replace(
            &mut self.child,
            Command::new("true").spawn().expect("true starts"),
        );
        std::thread::spawn(move || {
            let status = child.wait().expect("it ends");
            ended.send(status).expect("somebody waits");
        });
        let status = timeout(PATIENCE, end).await;
        status
            .unwrap_or_else(|_| panic!("{pid} does not stop"))
            .expect("it ended")
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.expect("kill starts").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
