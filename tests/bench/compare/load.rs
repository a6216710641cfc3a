//! The generator of load: HTTP/1.1 over connections that stay open, cheap enough to share two cores with what it measures.
//!
//! A closed loop sends the next request when the last is answered. An open loop sends at times that were fixed before, and
//! counts from those: a server that stalls is charged for everybody who waits (no coordinated omission).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as the connection is free.
    Closed,
    /// So many a second, whatever the answers do.
    Open(f64),
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    pub pace: Pace,
    /// The connections are spread over these.
    pub to: Vec<SocketAddr>,
    pub connections: usize,
    pub time: Duration,
    /// The number of the first request, and the end of the numbers.
    pub numbers: std::ops::Range<u64>,
    /// The status that counts.
    pub expect: u16,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Load {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// When each request that counts was sent, or had to be, and when it was answered: nanoseconds since the begin.
    pub answers: Vec<(u64, u64)>,
    /// Answers of another status.
    pub others: BTreeMap<u16, u64>,
    /// The first number that was not used.
    pub next: u64,
}

impl Load {
    /// Returns the answers that count in a second.
    pub fn rate(&self) -> f64 {
        self.answers.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns a quantile of the latency.
    pub fn latency(&self, quantile: f64) -> Duration {
        let mut all: Vec<u64> = self.answers.iter().map(|(from, to)| to - from).collect();
        Duration::from_nanos(super::pairs::quantile(&mut all, quantile))
    }

    /// Returns the longest time in which no answer came.
    pub fn longest_gap(&self) -> Duration {
        let mut ends: Vec<u64> = self.answers.iter().map(|(_, to)| *to).collect();
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_nanos(gaps.max().unwrap_or(0))
    }

    /// Panics unless every answer was the expected one.
    pub fn all_expected(self, what: &str) -> Self {
        assert!(
            self.others.is_empty(),
            "{what}: unexpected answers {:?}",
            self.others
        );
        self
    }
}

/// Sends requests made by `write`, which gets their numbers, and waits for the last answer.
pub async fn run(plan: Plan, write: impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static) -> Load {
    let shared = Arc::new(Shared {
        next: AtomicU64::new(plan.numbers.start),
        due: Semaphore::new(0),
        plan,
        write,
    });
    let plan = &shared.plan;
    let mut streams = Vec::new();
    for i in 0..plan.connections {
        let stream = TcpStream::connect(plan.to[i % plan.to.len()])
            .await
            .expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        streams.push(stream);
    }
    // The clock starts when all are connected.
    let began = Instant::now();
    let pacer = matches!(plan.pace, Pace::Open(_)).then(|| {
        let shared = shared.clone();
        std::thread::spawn(move || shared.pace(began))
    });
    let mut workers = JoinSet::new();
    for stream in streams {
        let shared = shared.clone();
        workers.spawn(async move { shared.work(stream, began).await });
    }
    let mut load = Load::default();
    while let Some(worked) = workers.join_next().await {
        let (answers, others) = worked.expect("no panic");
        load.answers.extend(answers);
        for (status, count) in others {
            *load.others.entry(status).or_default() += count;
        }
    }
    load.elapsed = began.elapsed();
    if let Some(pacer) = pacer {
        let due = pacer
            .join()
            .expect("no panic")
            .min(plan.numbers.end - plan.numbers.start);
        let answered = load.answers.len() as u64 + load.others.values().sum::<u64>();
        assert_eq!(answered, due, "answers beside requests that were due");
    }
    load.next = shared
        .next
        .load(Ordering::Relaxed)
        .min(shared.plan.numbers.end);
    load
}

struct Shared<W> {
    next: AtomicU64,
    due: Semaphore,
    plan: Plan,
    write: W,
}

type Answers = (Vec<(u64, u64)>, BTreeMap<u16, u64>);

impl<W: Fn(u64, &mut Vec<u8>) + Send + Sync> Shared<W> {
    /// Frees requests as their time comes, and returns how many. A thread, because timers of the runtime count in
    /// milliseconds.
    fn pace(&self, began: Instant) -> u64 {
        // Wake-ups are 50 us late unless the thread asks for better.
        let _ = std::fs::write("/proc/thread-self/timerslack_ns", "1");
        let mut freed = 0;
        while let Some(due) = self.due_at(freed) {
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            self.due.add_permits(1);
            freed += 1;
        }
        // Whoever finds no more is let go; what is due and not sent yet is sent, however late.
        self.due.add_permits(self.plan.connections);
        freed
    }

    /// Returns when the n-th request is to be sent, unless all time is over then.
    fn due_at(&self, n: u64) -> Option<Duration> {
        let Pace::Open(rate) = self.plan.pace else {
            return None;
        };
        let due = Duration::from_secs_f64(n as f64 / rate);
        (due < self.plan.time).then_some(due)
    }

    async fn work(&self, mut stream: TcpStream, began: Instant) -> Answers {
        let (mut answers, mut others) = Answers::default();
        let (mut request, mut answer) = (Vec::with_capacity(1024), vec![0; 64 * 1024]);
        let now = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        loop {
            let is_open = matches!(self.plan.pace, Pace::Open(_));
            if is_open {
                self.due.acquire().await.expect("never closed").forget();
            } else if began.elapsed() >= self.plan.time {
                break;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.numbers.end {
                break;
            }
            let from = match self.due_at(number - self.plan.numbers.start) {
                Some(due) => u64::try_from(due.as_nanos()).unwrap_or(u64::MAX),
                None if is_open => break,
                None => now(),
            };
            request.clear();
            (self.write)(number, &mut request);
            stream
                .write_all(&request)
                .await
                .expect("the request goes out");
            let status = read(&mut stream, &mut answer).await;
            if status == self.plan.expect {
                answers.push((from, now()));
            } else {
                *others.entry(status).or_default() += 1;
            }
        }
        (answers, others)
    }
}

/// Reads one answer to its end; only its status and its length are looked at.
async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> u16 {
    let mut filled = 0;
    let mut end = None;
    loop {
        let more = stream.read(&mut buffer[filled..]).await.expect("an answer");
        assert!(more > 0, "the server closed the connection");
        filled += more;
        if end.is_none() {
            let head = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n");
            end = head.map(|head| head + 4 + length(&buffer[..head]));
        }
        if end.is_some_and(|end| filled >= end) {
            break;
        }
    }
    std::str::from_utf8(&buffer[9..12])
        .ok()
        .and_then(|status| status.parse().ok())
        .expect("a status")
}

fn length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = head.windows(NAME.len()).position(|w| w == NAME);
    let digits = at.map_or(&[][..], |at| &head[at + NAME.len()..]);
    digits
        .iter()
        .take_while(|d| d.is_ascii_digit())
        .fold(0, |n, d| n * 10 + usize::from(d - b'0'))
}
