//! A mail server that takes everything at once, in a process of its own: it counts mails by recipient.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::floor::http::Part;

type Counts = Arc<Mutex<HashMap<Vec<u8>, u64>>>;

/// The handle of a running sink.
pub struct Sink(Part);

impl Sink {
    /// Starts one.
    pub fn start() -> Self {
        Self(Part::start("sink"))
    }

    /// Returns where it listens.
    pub fn addr(&self) -> std::net::SocketAddr {
        self.0.addr
    }

    /// Returns how many mails came, and to how many recipients.
    pub fn counts(&mut self) -> (usize, usize) {
        let stdin = self.0.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"counts\n").expect("the sink runs");
        let mut line = String::new();
        self.0.stdout.read_line(&mut line).expect("the sink runs");
        let mut numbers = line.split_whitespace().flat_map(str::parse);
        (
            numbers.next().expect("mails"),
            numbers.next().expect("recipients"),
        )
    }
}

/// Serves until killed; answers each line on standard input with the counts.
pub async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let counts = Counts::default();
    let asked = counts.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let counts = asked.lock().expect("no panic");
            println!("{} {}", counts.values().sum::<u64>(), counts.len());
        }
    });
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let counts = counts.clone();
        // A client that breaks off is the client's affair.
        tokio::spawn(async move { session(stream, &counts).await });
    }
}

async fn session(mut stream: TcpStream, counts: &Counts) -> std::io::Result<()> {
    const END: &[u8] = b"\r\n.\r\n";
    let (mut input, mut output) = (Vec::new(), b"220 sink.example ESMTP\r\n".to_vec());
    let (mut recipient, mut in_data) = (Vec::new(), false);
    loop {
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        loop {
            let rest = &input[done..];
            if in_data {
                let Some(end) = rest.windows(END.len()).position(|w| w == END) else {
                    break;
                };
                done += end + END.len();
                in_data = false;
                *counts
                    .lock()
                    .expect("no panic")
                    .entry(std::mem::take(&mut recipient))
                    .or_default() += 1;
                output.extend_from_slice(b"250 2.0.0 taken\r\n");
                continue;
            }
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line = rest[..=end].to_ascii_uppercase();
            let reply: &[u8] = match &line[..4.min(line.len())] {
                b"EHLO" => b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
                b"RCPT" => {
                    recipient = rest[..end].to_vec();
                    b"250 2.1.5 ok\r\n"
                }
                b"DATA" => {
                    in_data = true;
                    b"354 go\r\n"
                }
                b"QUIT" => b"221 2.0.0 bye\r\n",
                _ => b"250 2.0.0 ok\r\n",
            };
            output.extend_from_slice(reply);
            // The line end before the text is the one that its dot may stand behind.
            done += if in_data { end - 1 } else { end + 1 };
        }
        input.drain(..done);
    }
}
