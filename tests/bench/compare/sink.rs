//! A mail server that takes everything at once, in a process of its own: it counts mails by recipient, and bytes.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::floor::http::Part;

/// What takes mails and counts them.
pub trait Relay {
    /// Returns where it listens.
    fn addr(&self) -> SocketAddr;
    /// Returns how many mails it took so far.
    fn taken(&mut self) -> usize;
    /// Returns how many mails came, and to how many recipients.
    fn counts(&mut self) -> (usize, usize);
}

#[derive(Default)]
struct Taken {
    mails: HashMap<Vec<u8>, u64>,
    bytes: u64,
}

type Counts = Arc<Mutex<Taken>>;

/// The handle of a running sink.
pub struct Sink(Part);

impl Sink {
    /// Starts one.
    pub fn start() -> Self {
        Self(Part::start("sink"))
    }

    /// Returns the mean length of a mail, its header with it.
    pub fn length(&mut self) -> usize {
        let [mails, _, bytes] = self.ask();
        bytes / mails
    }

    fn ask(&mut self) -> [usize; 3] {
        let stdin = self.0.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"counts\n").expect("the sink runs");
        let mut line = String::new();
        self.0.stdout.read_line(&mut line).expect("the sink runs");
        let mut numbers = line.split_whitespace().flat_map(str::parse);
        [(); 3].map(|()| numbers.next().expect("mails, recipients, bytes"))
    }
}

impl Relay for Sink {
    fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    fn taken(&mut self) -> usize {
        self.counts().0
    }

    fn counts(&mut self) -> (usize, usize) {
        let [mails, recipients, _] = self.ask();
        (mails, recipients)
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
            let Taken { mails, bytes } = &*asked.lock().expect("no panic");
            println!("{} {} {bytes}", mails.values().sum::<u64>(), mails.len());
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
                let mut counts = counts.lock().expect("no panic");
                *counts
                    .mails
                    .entry(std::mem::take(&mut recipient))
                    .or_default() += 1;
                // What is before the text, the end of a line, is as long as what ends it.
                counts.bytes += end as u64;
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
