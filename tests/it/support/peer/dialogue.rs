//! One connection to the peer.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Act, Crypt, Mail, Moment, Point, Shared, lock};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// Counts the end of a connection, however it comes.
struct Closed(Arc<Shared>, usize);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| {
            seen.closed += 1;
            seen.stands.remove(&self.1);
        });
    }
}

/// Speaks until either side closes.
pub(super) async fn run(tcp: TcpStream, connection: usize, shared: Arc<Shared>) {
    let _closed = Closed(shared.clone(), connection);
    // an error is the client's going away
    let _ = talk(tcp, connection, shared).await;
}

async fn talk(tcp: TcpStream, connection: usize, shared: Arc<Shared>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match shared.crypt {
        Crypt::Implicit => Box::new(shared.certificate.acceptor.accept(tcp).await?),
        _ => Box::new(tcp),
    };
    let encrypted = shared.crypt == Crypt::Implicit;
    let mut dialogue = Dialogue {
        stream: BufReader::new(stream),
        shared,
        connection,
        encrypted,
        transactions: 0,
        from: None,
        to: Vec::new(),
    };
    dialogue
        .answer(Point::Greeting, "220 peer.test ESMTP")
        .await?;
    loop {
        let line = dialogue.line().await?;
        dialogue = dialogue.command(&line).await?;
    }
}

struct Dialogue {
    stream: BufReader<Box<dyn Stream>>,
    shared: Arc<Shared>,
    connection: usize,
    encrypted: bool,
    transactions: usize,
    from: Option<String>,
    to: Vec<String>,
}

fn end() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Dialogue {
    /// Reads a command and writes it down.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(end());
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        let entry = (self.connection, line.clone());
        self.shared
            .seen
            .send_modify(|seen| seen.commands.push(entry));
        Ok(line)
    }

    async fn command(mut self, line: &str) -> io::Result<Dialogue> {
        let upper = line.to_ascii_uppercase();
        let verb = upper.split([' ', ':']).next().unwrap_or_default();
        match verb {
            "EHLO" => {
                let answer = self.capabilities();
                self.answer(Point::Ehlo, &answer).await?;
            }
            "STARTTLS" => {
                if self.answer(Point::Starttls, "220 2.0.0 go ahead").await? {
                    let plain = self.stream.into_inner();
                    let stream: Box<dyn Stream> =
                        Box::new(self.shared.certificate.acceptor.accept(plain).await?);
                    return Ok(Dialogue {
                        stream: BufReader::new(stream),
                        encrypted: true,
                        ..self
                    });
                }
            }
            "AUTH" => {
                if upper == "AUTH LOGIN" {
                    for challenge in ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"] {
                        self.write(format!("{challenge}\r\n").as_bytes()).await?;
                        self.line().await?;
                    }
                }
                self.answer(Point::Auth, "235 2.7.0 welcome").await?;
            }
            "MAIL" => {
                self.to.clear();
                self.transactions += 1;
                self.from = Some(address(line));
                if !self.answer(Point::Mail, "250 2.1.0 ok").await? {
                    self.from = None;
                }
            }
            "RCPT" => {
                self.to.push(address(line));
                let usual = match self.from {
                    Some(_) => "250 2.1.5 ok",
                    None => "503 5.5.1 MAIL first",
                };
                if !self.answer(Point::Rcpt, usual).await? {
                    self.to.pop();
                }
            }
            "DATA" => {
                let usual = match self.to[..] {
                    [] => "554 5.5.1 no valid recipients",
                    _ => "354 go ahead",
                };
                if self.answer(Point::Data, usual).await? {
                    self.text().await?;
                }
            }
            "RSET" => {
                (self.from, self.to) = (None, Vec::new());
                self.answer(Point::Rset, "250 2.0.0 ok").await?;
            }
            "QUIT" => {
                self.answer(Point::Quit, "221 2.0.0 bye").await?;
                return Err(end());
            }
            _ => self.write(b"502 5.5.1 unknown\r\n").await?,
        }
        Ok(self)
    }

    fn capabilities(&self) -> String {
        let offered = lock(&self.shared.capabilities);
        let offered = offered
            .iter()
            .filter(|line| !self.encrypted || *line != "STARTTLS");
        let lines: Vec<&str> = std::iter::once("peer.test")
            .chain(offered.map(String::as_str))
            .collect();
        let (last, rest) = lines.split_last().expect("there is the name");
        rest.iter()
            .map(|line| format!("250-{line}\r\n"))
            .collect::<String>()
            + &format!("250 {last}")
    }

    /// Reads the text and answers the dot.
    async fn text(&mut self) -> io::Result<()> {
        match self.act(Point::Body).await {
            // a client that writes on is stalled by a reader that reads nothing
            Some(Act::Silence) => std::future::pending().await,
            Some(act) => drop(self.perform(Some(act), "").await?),
            None => {}
        }
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            if self.stream.read_until(b'\n', &mut bytes).await? == 0 {
                return Err(end());
            }
            match &bytes[start..] {
                b".\r\n" => {
                    bytes.truncate(start);
                    break;
                }
                [b'.', ..] => drop(bytes.remove(start)),
                _ => {}
            }
        }
        let (keep, act) = match self.act(Point::Dot).await {
            None => (true, None),
            Some(Act::Kept(act)) => (true, Some(*act)),
            Some(act) => (
                matches!(&act, Act::Reply(line) if line.starts_with('2')),
                Some(act),
            ),
        };
        let kept = keep.then(|| {
            self.shared.keep(Mail {
                index: 0,
                connection: self.connection,
                envelope_from: self.from.take().unwrap_or_default(),
                envelope_to: std::mem::take(&mut self.to),
                bytes,
            })
        });
        self.perform(act, "250 2.0.0 kept").await?;
        if let Some(kept) = kept {
            self.shared.seen.send_modify(|seen| {
                seen.answered.insert(kept);
            });
        }
        Ok(())
    }

    /// Waits while the point is held, then asks the script.
    async fn act(&self, point: Point) -> Option<Act> {
        let stand = (point, self.to.last().cloned());
        self.shared.seen.send_modify(|seen| {
            seen.stands.insert(self.connection, stand);
        });
        let mut held = self.shared.held.subscribe();
        if *held.borrow_and_update() == Some(point) {
            self.shared.seen.send_modify(|seen| seen.waiting += 1);
            let _ = held.wait_for(|held| *held != Some(point)).await;
            self.shared.seen.send_modify(|seen| seen.waiting -= 1);
        }
        let script = lock(&self.shared.script).clone();
        script(&Moment {
            point,
            connection: self.connection,
            transaction: self.transactions.saturating_sub(1),
            sender: self.from.as_deref(),
            recipient: self.to.last().map(String::as_str),
        })
    }

    /// Answers as scripted, or as usual; true when that lets the dialogue go on from here.
    async fn answer(&mut self, point: Point, usual: &str) -> io::Result<bool> {
        let act = self.act(point).await;
        self.perform(act, usual).await
    }

    async fn perform(&mut self, act: Option<Act>, usual: &str) -> io::Result<bool> {
        match act {
            None => {
                self.write(format!("{usual}\r\n").as_bytes()).await?;
                Ok(usual.starts_with(['2', '3']))
            }
            Some(Act::Reply(line)) => {
                self.write(format!("{line}\r\n").as_bytes()).await?;
                if line.starts_with("421") {
                    Err(end())
                } else {
                    Ok(line.starts_with(['2', '3']))
                }
            }
            Some(Act::Raw(bytes)) => self.write(&bytes).await.map(|()| true),
            Some(Act::Close) => Err(end()),
            Some(Act::Endless) => loop {
                self.write(&[b'2'; 8192]).await?;
            },
            Some(Act::Silence) => loop {
                let n = self.stream.fill_buf().await?.len();
                if n == 0 {
                    return Err(end());
                }
                self.stream.consume(n);
            },
            Some(Act::Kept(_)) => panic!("a mail is kept only at the dot"),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await?;
        self.stream.get_mut().flush().await
    }
}

/// What stands between the angle brackets.
fn address(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or("", |(address, _)| address).to_owned()
}
